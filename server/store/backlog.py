"""Turns whose callers were told that the store failed: kept until it works again, oldest first.

None waits here for its parent: nobody has heard of a turn that is not on tape, so nobody can go on from it. What came
in earlier is written earlier all the same.
"""

from collections import deque
from itertools import islice
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Backlog(Generic[ItemT]):
    """A queue that holds at most ``most_bytes``."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._items: deque[tuple[ItemT, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: ItemT, size: int) -> bool:
        """Whether there was room for it."""
        if self._bytes + size > self._most_bytes:
            return False
        self._items.append((item, size))
        self._bytes += size
        return True

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

    def drop(self, count: int) -> None:
        """The oldest ``count`` need not wait any longer."""
        for _ in range(count):
            self._bytes -= self._items.popleft()[1]

    def take_all(self) -> list[ItemT]:
        """Everything, oldest first; nothing stays."""
        items = self.first(len(self._items), self._bytes)
        self.drop(len(items))
        return items
