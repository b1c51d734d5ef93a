"""One engine of a pool, and where it stands."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tickertape.clients.engines.engine import Engine, EngineInfo
from tickertape.clients.engines.pool.attempt import Attempt, Silence


class MemberState(StrEnum):
    """The states of a member; they decide whether it gets requests."""

    STARTING = "starting"
    READY = "ready"
    """The only one that does."""
    DOWN = "down"
    """It does not answer, or is not the engine that it was; it is asked again and again."""
    STALE = "stale"
    """It answers, with weights of another version than is expected, or of an unknown one."""
    DRAINING = "draining"
    """It is being removed: what it runs may end."""


@dataclass(slots=True, eq=False)
class Member:
    """One engine of a pool. Read it; only the pool writes."""

    name: str
    engine: Engine
    limit: int | None = None
    """Number of requests that it gets at once; ``None``: any number."""
    was_added: bool = False
    """True if it came while the pool served, not with the pool itself."""
    info: EngineInfo | None = None
    """The description that it gave of itself when it was last let in; ``None`` before it was for the first time."""
    state: MemberState = MemberState.STARTING
    reason: str = "it was not reached yet"
    """The reason why it is not ready; empty if it is."""
    version: str | None = None
    """Of its weights: as it reported them last, else as it was confirmed or expected; ``None``: not known."""
    reports_version: bool = False
    """True if the engine itself says its version when it is asked."""
    running: int = 0
    running_tokens: int = 0
    """Prompts, and completions as long as they are expected to become, of what it runs."""
    served: int = 0
    """Requests that it finished."""
    failed: int = 0
    """Requests that ended with an error of it."""
    last_error: str | None = None
    failed_requests: int = 0
    """In a row, of those that say it cannot serve."""
    failed_probes: int = 0
    """In a row."""
    heard_at: float = 0.0
    """Time at which it last gave a token: seconds of ``time.monotonic``."""
    down_at: float = 0.0
    """Time at which it went down; seconds of ``time.monotonic``."""
    turn: int = 0
    """The number of the pool's last request that went to it."""
    attempts: set[Attempt] = field(default_factory=set, repr=False)
    """The attempts that it runs."""
    suspected: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Set to have it probed at once."""
    idle: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Set while it runs nothing, as far as a caller waits for that."""

    @property
    def kind(self) -> str:
        """``vllm``, ``sglang``, …; empty before it was reached for the first time."""
        return "" if self.info is None else self.info.name

    @property
    def url(self) -> str:
        """Empty before it was reached for the first time."""
        return "" if self.info is None else self.info.url

    @property
    def has_room(self) -> bool:
        return self.limit is None or self.running < self.limit

    def take(self, tokens: int) -> None:
        """A request of so many tokens goes to it."""
        self.running += 1
        self.running_tokens += tokens

    def release(self, tokens: int) -> None:
        """That request has ended, however it did."""
        self.running -= 1
        self.running_tokens -= tokens
        if not self.running:
            self.idle.set()

    @contextmanager
    def attempt(self, silence: Silence) -> Iterator[Attempt]:
        """A request of the current task, as long as it is here."""
        attempt = Attempt(silence)
        self.attempts.add(attempt)
        try:
            yield attempt
        finally:
            self.attempts.discard(attempt)
            attempt.end()
