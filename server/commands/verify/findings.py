"""The checks of a tape, and their findings: see ``verify``."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from tickertape.server.trajectories.turn import Logprobs, TokenIds


class RecordedTurn(Protocol):
    """The fields of a turn that are checked: the store's and the trainer's client's both have them."""

    @property
    def id(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def seq(self) -> int: ...
    @property
    def outcome(self) -> str: ...
    @property
    def prompt_delta(self) -> TokenIds: ...
    @property
    def completion(self) -> TokenIds: ...
    @property
    def logprobs(self) -> Logprobs: ...
    @property
    def logprob_kind(self) -> str: ...
    @property
    def versions(self) -> list[tuple[str | None, int]]: ...
    @property
    def sampling(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Tolerances:
    """The limits of what counts as the same."""

    tolerance: float = 1e-3
    """Of |Δ| between two logprobs."""
    version: str | None = None
    """Only tokens that this policy version sampled are compared; ``None``: all."""


class Check(StrEnum):
    """The checks that a turn goes through."""

    ECHO = "echo"
    LOGPROB = "logprob"
    GREEDY = "greedy"


@dataclass(frozen=True, slots=True)
class Deviation:
    """A token of which tape and engine say different things."""

    check: Check
    session_id: str
    turn_id: str
    seq: int
    position: int
    """In the turn's stream, from 0."""
    token: int | None
    """On tape; ``None`` where the tape has ended."""
    engine_token: int | None
    """The engine's; ``None`` where it has ended."""
    logprob: float | None = None
    """Of ``token``, on tape."""
    engine_logprob: float | None = None
    """Of ``engine_token``, by the engine; NaN where it finds it impossible."""


@dataclass(slots=True)
class TurnCheck:
    """Findings about one turn."""

    session_id: str
    turn_id: str
    seq: int
    sampled: int
    """Tokens."""
    compared: int = 0
    """Tokens whose two logprobs were compared."""
    nan: int = 0
    """Tokens without a logprob on tape, of those that would have been compared."""
    off: int = 0
    """Tokens beyond the tolerance."""
    max_difference: float = 0.0
    mean_difference: float = 0.0
    """|Δ|, over the tokens compared."""
    not_comparable: str | None = None
    """The reason why logprobs were not compared."""
    greedy: bool | None = None
    """True if sampling it again gave the same tokens; ``None``: it was not sampled again."""
    not_sampled_again: str | None = None
    """The reason why it was not, though it was sampled greedily."""
    deviations: list[Deviation] = field(default_factory=list)
    """At most one of each check: the first token that differs, or the one whose logprobs are farthest apart."""


@dataclass(frozen=True, slots=True)
class SessionCheck:
    """Findings about one session."""

    turns: list[TurnCheck]
    """Those that sampled anything, in order of ``seq``."""
    streams: int
    """Number of streams that were read by the engine."""
    tokens_read: int
    """In them."""
    sampled_under: dict[str | None, int]
    """Sampled tokens by policy version."""
