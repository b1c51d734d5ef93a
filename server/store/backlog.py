"""Turns whose callers got an error, since the store failed: kept until it works again, oldest first.

None waits here for its parent: no client has heard of a turn that is not on tape, so none can go on from it. What came
in earlier is written earlier all the same.
"""

from collections import deque
from itertools import islice
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Backlog(Generic[ItemT]):
    """A queue of items and their sizes in bytes."""

    def __init__(self) -> None:
        self._items: deque[tuple[ItemT, int]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: ItemT, size: int) -> None:
        self._items.append((item, size))

    def first(self, most: int, most_bytes: int) -> list[ItemT]:
        """The oldest, one at least, for a transaction of such a size. They stay until :meth:`drop`."""
        found: list[ItemT] = []
        total = 0
        for item, size in islice(self._items, most):
            total += size
            if found and total > most_bytes:
                break
            found.append(item)
        return found

    def drop(self, count: int) -> int:
        """The oldest ``count`` need not wait any longer; how many bytes they have."""
        return sum(self._items.popleft()[1] for _ in range(count))
