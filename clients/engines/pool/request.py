"""A request on its way to an engine."""

from dataclasses import dataclass, field

from tickertape.clients.engines.engine import TokenIds
from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.clients.engines.pool.member import Member


@dataclass(slots=True, eq=False)
class Ask:
    """What decides where a request goes, and what became of it so far."""

    prompt_ids: TokenIds
    """int32[n]"""
    adapter: str | None
    affinity: str
    """The session's id."""
    min_version: str | None
    tokens: int
    """The load that it is for an engine: its prompt and a completion of usual length."""
    patience: float
    """Seconds left to wait while no engine could take it, however much room it had."""
    goes_on: bool = False
    """Whether it is the rest of a completion that has begun: it waits for room as long as it takes."""
    timeouts: int = 0
    """How often an engine gave no token in time."""
    tried: set[Member] = field(default_factory=set)
    """Who could not serve it since the last time that nobody was there."""
    cause: EngineUnavailable | None = None
    """Why the last of them could not."""
