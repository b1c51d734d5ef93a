"""The age of what is on tape, in spite of a clock that is set.

Times on tape are the wall clock's, which can be set forward by hours. What is finished or deleted for its age must be
that old by a clock that cannot be set. So time that did not pass while this process looked does not count: not what the
clock jumps over, and not what lies between the last sign of life on tape and the start, which may be a jump or a pause.

It counts again when the age in question has passed since: all that was there before is then that old.
"""

import logging
import time
from collections.abc import Callable

#: Seconds that the two clocks may differ without one being taken for set.
_TOLERANCE = 1.0
#: Seconds without a server from which on the log says so.
_WORTH_SAYING = 600.0

_log = logging.getLogger("tickertape")


def _wall() -> float:
    return time.time()


def _steady() -> float:
    """Seconds of a clock that cannot be set, and goes on while the system sleeps, where there is such a one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class AgeClock:
    """The time that ages are measured from.

    Args:
        wall: seconds since 1970, as on tape.
        steady: seconds of a clock that cannot be set.
    """

    def __init__(self, wall: Callable[[], float] = _wall, steady: Callable[[], float] = _steady) -> None:
        self._wall = wall
        self._steady = steady
        self._seen = wall(), steady()
        self._jumps: list[tuple[float, float]] = []
        """The times when they were noticed, by the steady clock, and how long they were."""

    def start_after(self, away: float) -> None:
        """The last sign of life on tape is so many seconds old, by the wall clock."""
        if away > _TOLERANCE:
            self._jumps.append((self._steady(), away))
        if away > _WORTH_SAYING:
            _log.info("no server was seen on this tape for %.0f s: they make no session and no lease older", away)

    def now(self, age: float) -> float:
        """The time, by the wall clock, to find out what is older than ``age`` seconds."""
        self._notice()
        wall, steady = self._seen
        return wall - sum(length for at, length in self._jumps if steady - at < age)

    def _notice(self) -> None:
        wall, steady = self._wall(), self._steady()
        jump = (wall - self._seen[0]) - (steady - self._seen[1])
        self._seen = wall, steady
        if jump > _TOLERANCE:
            self._jumps.append((steady, jump))
            _log.warning(
                "the clock was set forward by %.0f s: sessions and leases are not finished, deleted or taken back for "
                "that, but when as much time as their limit has passed",
                jump,
            )
        elif jump < -_TOLERANCE:
            _log.warning("the clock was set back by %.0f s: sessions and leases are kept for that much longer", -jump)
