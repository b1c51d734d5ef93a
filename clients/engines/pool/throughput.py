"""The pace at which a pool gets through its requests, judged by the last of them."""

import time
from collections import deque

#: Ends that are looked back at: enough to smooth a burst, few enough to follow a change within seconds under load.
_ENDS = 64


class Pace:
    """Ends of requests per second."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_ENDS)

    def note(self) -> None:
        """A request has ended, and its place is free."""
        self._ends.append(time.monotonic())

    def seconds_for(self, requests: int) -> float:
        """Estimates the seconds that this many requests take at this pace; one second each while none has ended."""
        if not self._ends:
            return float(requests)
        return requests * max(time.monotonic() - self._ends[0], 1e-3) / len(self._ends)
