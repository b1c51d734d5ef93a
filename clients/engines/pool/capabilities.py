"""The description that the pool gives of itself, and holds engines to that come later."""

from collections.abc import Collection
from dataclasses import replace

from tickertape.clients.engines.engine import EngineInfo
from tickertape.clients.engines.pool.member import Member, MemberState


class Promise:
    """Of the model: the first engine's, with the least context of all, and what all ready ones have of the rest. It
    follows what is there: an engine that is down counts with the context that it had, for it may be back.

    Args:
        members: the pool's.
        any_model: whether engines may call the model differently.
    """

    def __init__(self, members: Collection[Member], *, any_model: bool) -> None:
        self.info: EngineInfo | None = None
        """``None`` until an engine was ready; kept while none is."""
        self._members = members
        self._any_model = any_model

    def update(self) -> bool:
        """Sums members up; whether one is ready."""
        known = [(member.state, member.info) for member in self._members if member.info is not None]
        ready = [info for state, info in known if state is MemberState.READY]
        if ready:
            self.info = replace(
                known[0][1],
                max_context=min(info.max_context for _, info in known),
                adapters=tuple(name for name in ready[0].adapters if all(name in info.adapters for info in ready)),
                features=frozenset.intersection(*(info.features for info in ready)),
            )
        return bool(ready)

    def misfit(self, member: Member, info: EngineInfo) -> str | None:
        """Finds why an engine that comes now, or comes back, cannot serve in this pool: prompts are made for one model,
        and conversations go on that have filled the context which is promised.

        Less context than that is no misfit while no other engine serves, nor of an engine that comes for the first
        time and belonged to the pool from the start: what is promised then becomes less.
        """
        if self.info is None:
            return None
        if not self._any_model and info.model != self.info.model:
            return f"it serves the model {info.model!r}, this pool serves {self.info.model!r}"
        if info.max_context >= self.info.max_context or (member.info is None and not member.was_added):
            return None
        if any(other.state is MemberState.READY for other in self._members if other is not member):
            promised = f"{self.info.max_context} are promised while others serve"
            return f"it holds {info.max_context} tokens of context, {promised}"
        return None
