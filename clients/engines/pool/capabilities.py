"""What the pool says of itself, and holds engines to that come later."""

from collections.abc import Iterable
from dataclasses import replace

from tickertape.clients.engines.engine import EngineInfo
from tickertape.clients.engines.pool.member import Member, MemberState


class Promise:
    """Of the model: the first engine's, with the least context of all, and what all ready ones have of the rest.

    Args:
        any_model: whether engines may call the model differently.
    """

    def __init__(self, *, any_model: bool) -> None:
        self.info: EngineInfo | None = None
        """``None`` until an engine was ready; kept while none is."""
        self._any_model = any_model

    def update(self, members: Iterable[Member]) -> bool:
        """Sums members up; whether one is ready."""
        known = [(member.state, member.info) for member in members if member.info is not None]
        ready = [info for state, info in known if state is MemberState.READY]
        if ready:
            self.info = replace(
                known[0][1],
                max_context=min(info.max_context for _, info in known),
                adapters=tuple(name for name in ready[0].adapters if all(name in info.adapters for info in ready)),
                features=frozenset.intersection(*(info.features for info in ready)),
            )
        return bool(ready)

    def misfit(self, info: EngineInfo) -> str | None:
        """Why an engine that comes now, or comes back, is none for this pool: prompts are made for the model and for
        the context that were promised."""
        if self.info is None:
            return None
        if info.max_context < self.info.max_context:
            return f"it holds {info.max_context} tokens of context, {self.info.max_context} are promised"
        return self.other_model(info)

    def other_model(self, info: EngineInfo) -> str | None:
        if self.info is None or self._any_model or info.model == self.info.model:
            return None
        return f"it serves the model {info.model!r}, the others serve {self.info.model!r}"
