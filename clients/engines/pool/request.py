"""A request to a pool: what is asked, and what became of it so far."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tickertape.clients.engines.engine import Sampling, TokenIds
from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.clients.engines.pool.member import Member


def _ignore(member: Member) -> None:
    pass


@dataclass(slots=True, eq=False, kw_only=True)
class EngineRequest:
    """One completion that is asked of a pool. The fields below ``on_engine`` are the pool's own."""

    prompt_ids: TokenIds
    """int32[n]"""
    sampling: Sampling
    request_id: str
    """Not used for any other generation; a second attempt adds ``.1`` to it, and so on."""
    session_id: str
    """Its requests go where its tokens are cached."""
    min_version: str | None = None
    """Weights older than this may not serve; see :class:`VersionOrder` for what is older."""
    chunk_tokens: int = 1
    """See :meth:`Engine.generate`."""
    resumes: bool = False
    """True for the rest of a completion that has begun: it waits for room as long as it takes."""
    on_engine: Callable[[Member], None] = _ignore
    """Called with the engine that gets the request, again for another attempt."""

    tokens: int = 0
    """The load that it is for an engine: its prompt and a completion of usual length."""
    patience: float = 0.0
    """Seconds left to wait while no engine could take it, however much room it had."""
    timeouts: int = 0
    """Number of times that an engine gave no token in time."""
    tried: set[Member] = field(default_factory=set)
    """Engines that could not serve it since the last time that none was there."""
    cause: EngineUnavailable | None = None
    """The error for which the last of them could not."""
