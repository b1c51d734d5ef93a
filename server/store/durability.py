"""The durability of the tape: what a commit survives, and what becomes of turns while the store fails."""

from dataclasses import dataclass
from enum import StrEnum


class Sync(StrEnum):
    """The event that a commit waits for."""

    FULL = "full"
    """The disk has it: a power cut takes no acknowledged turn."""
    NORMAL = "normal"
    """The operating system has it, or PostgreSQL's server: this process may be killed at any moment, but a power cut,
    or a crash of that system or server, can take the last turns that were acknowledged."""


@dataclass(frozen=True, slots=True)
class Durability:
    """The settings that a store is opened with."""

    sync: Sync = Sync.FULL
    patience: float = 10.0
    """Seconds for which a turn is tried again while the store fails, before its caller gets an error."""
    backlog_memory: int = 256 * 2**20
    """Bytes of turns that wait in memory for a store that works again."""
    batch: int = 256
    """Calls whose turns are committed in one transaction at most; 1: none waits for another, and none is saved."""
