"""The health of the tape, as far as is known: asked before anything is sampled for it."""

import logging
import time

from tickertape.server.store.database import StoreUnavailable

_log = logging.getLogger("tickertape")


class TapeHealth:
    """The health of a store, as far as is known. The writer's thread notes it, everybody asks."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """The reason why it cannot be written; ``None`` while it can."""
        self.refused = 0
        """Calls that were refused for it since it fails."""
        self.refused_in_all = 0
        self.written_later = 0
        """Calls whose turns were committed from the backlog."""
        self._since = 0.0

    @property
    def failing(self) -> bool:
        return self.reason is not None

    def check(self, full: str | None = None) -> None:
        """Counts a call that is refused.

        Args:
            full: why it has no room for another call, though it may work.

        Raises:
            StoreUnavailable: the store is known to fail, or has no room.
        """
        reason = self.reason or full
        if reason is not None:
            self.refused += 1
            self.refused_in_all += 1
            raise StoreUnavailable(reason)

    def failed(self, error: Exception) -> None:
        """A write has just failed."""
        if self.reason is None:
            self._since = time.monotonic()
            _log.error("the store fails, calls are refused until it works again: %s", error)
        self.reason = str(error)

    def works(self, backlog_written: int) -> None:
        """A write has just succeeded, and nothing waits for one any more."""
        if self.reason is None:
            return
        _log.warning(
            "the store works again after %.1f s: %d turns from the backlog committed, %d calls were refused",
            time.monotonic() - self._since,
            backlog_written,
            self.refused,
        )
        self.reason = None
        self.refused = 0
        self.written_later += backlog_written
