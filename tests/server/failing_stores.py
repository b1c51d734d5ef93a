"""Stores that fail for real, and a fake one for what no real one does on demand."""

import resource
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from tickertape.server.store.database import StoreUnavailable


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process's writer holds it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """The folder that it is in has another name, as if its file system were not mounted."""
    elsewhere = path.parent.with_name(f"{path.parent.name}-elsewhere")
    path.parent.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(path.parent)


@contextmanager
def full(path: Path) -> Iterator[None]:
    """No file of this process may grow beyond what the write-ahead log has now, as if the disk had ended there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


#: Makes the tape at a path fail while its block runs.
Failure = Callable[[Path], AbstractContextManager[None]]


class FakeWrites:
    """Where a writer under test writes to, and what happened there."""

    def __init__(self) -> None:
        self.failing: Exception | None = None
        self.poison: set[int] = set()
        self.written: list[int] = []
        self.batches: list[int] = []
        self.given: list[int] = []
        self.dropped: list[int] = []

    def write(self, items: Sequence[int], *, again: bool) -> None:
        if self.failing is not None:
            raise self.failing
        if self.poison.intersection(items):
            raise ValueError("poison")
        self.written += items
        self.batches.append(len(items))

    def probe(self) -> None:
        if self.failing is not None:
            raise self.failing

    def given_up(self, item: int, reason: str) -> int:
        self.given.append(item)
        return item

    def lost(self, item: int, error: Exception) -> None:
        self.dropped.append(item)

    def fail(self, reason: str = "the disk is full") -> None:
        self.failing = StoreUnavailable(reason)
