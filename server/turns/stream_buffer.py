"""An answer on its way to a client that reads along.

The engine never waits for a slow reader: what has not been read is joined, so that it takes up no more memory than the
answer itself.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tickertape.clients.engines.engine import Chunk
from tickertape.renderers.draft import CallDelta, ContentDelta, Delta, ReasoningDelta
from tickertape.server.errors import ProxyError
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.request import TurnResult


@dataclass(slots=True)
class Sampled:
    """The growth of one choice."""

    choice: int
    deltas: list[Delta] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    """The tokens that were sampled meanwhile; the deltas need not be of the same ones."""
    logprobs: list[float] = field(default_factory=list)
    tops: list[dict[int, float]] = field(default_factory=list)


def whole(choice: int, result: TurnResult) -> Sampled:
    """An answer as if it had come at once."""
    turn = result.turn
    return Sampled(
        choice, list(result.parts), turn.completion.tolist(), turn.logprobs.tolist(), result.top_logprobs or []
    )


class StreamBuffer:
    """Between the generation, which puts, and one reader.

    Args:
        with_tokens: whether the reader gets tokens and logprobs too.
    """

    def __init__(self, *, with_tokens: bool = False) -> None:
        self.turns: Sequence[Turn] = ()
        """The turns that are sampled, one for each choice; set before the first token."""
        self.results: Sequence[TurnResult] = ()
        """The turns' results, once they are on tape."""
        self.error: ProxyError | None = None
        """The error because of which there are no results."""
        self._with_tokens = with_tokens
        self._pending: dict[int, Sampled] = {}
        self._is_woken = False
        self._waiting: asyncio.Future[None] | None = None

    def put(self, choice: int, deltas: Sequence[Delta], chunk: Chunk | None = None) -> None:
        """More of a choice."""
        if not deltas and not (self._with_tokens and chunk is not None and chunk.token_ids):
            return
        pending = self._pending.get(choice)
        if pending is None:
            pending = self._pending[choice] = Sampled(choice)
        for delta in deltas:
            _join(pending.deltas, delta)
        if self._with_tokens and chunk is not None:
            pending.token_ids += chunk.token_ids
            pending.logprobs += chunk.logprobs
            pending.tops += chunk.top_logprobs or ()
        self.wake()

    @property
    def has_news(self) -> bool:
        """Returns True if something was put that has not been read."""
        return bool(self._pending)

    def wake(self) -> None:
        """Lets the reader look around, also if there is nothing new."""
        self._is_woken = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def news(self) -> list[Sampled]:
        """Returns what has come since this was last asked; waits until there is something, or :meth:`wake`."""
        if not self._is_woken:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        self._is_woken = False
        pending, self._pending = self._pending, {}
        return list(pending.values())


def _join(deltas: list[Delta], delta: Delta) -> None:
    """Adds a delta, joined with the last one where both tell of the same thing."""
    last = deltas[-1] if deltas else None
    match last, delta:
        case (ContentDelta(before), ContentDelta(text)):
            deltas[-1] = ContentDelta(before + text)
        case (ReasoningDelta(before), ReasoningDelta(text)):
            deltas[-1] = ReasoningDelta(before + text)
        case (CallDelta(), CallDelta(name=None)) if last.index == delta.index:
            deltas[-1] = replace(last, arguments=last.arguments + delta.arguments)
        case _:
            deltas.append(delta)
