"""The ends of the turns of one request: what each is called on tape, and what the caller hears."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeAlias

from tickertape.clients.engines.errors import EngineAborted, EngineBusy, EngineError, EngineRefused
from tickertape.server.errors import GenerationEnded, ProxyError, ServerStopping
from tickertape.server.errors import from_engine as answer_for
from tickertape.server.policy.gate import BrokenOff
from tickertape.server.trajectories.turn import Outcome, Turn
from tickertape.server.turns.request import TurnResult
from tickertape.server.turns.waiters import ClientGone, Stopped

Settled: TypeAlias = TurnResult | BaseException


async def together(samplings: Sequence[Awaitable[TurnResult]]) -> Sequence[Settled]:
    """All results, failures among them, in order. If this is cancelled, it ends when all have."""
    if len(samplings) == 1:  # the common case needs no task of its own
        try:
            return [await samplings[0]]
        except Exception as error:  # noqa: BLE001  (the caller's to raise)
            return [error]
    tasks = [asyncio.ensure_future(sampling) for sampling in samplings]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    return [task.exception() or task.result() for task in tasks]


def settle(
    turns: Sequence[Turn], settled: Sequence[Settled], seconds: float
) -> tuple[list[TurnResult], BaseException | None, BaseException | None]:
    """Enters how the turns ended. Gives the results; or what the caller should hear of the first that failed, and
    why it did."""
    results: list[TurnResult] = []
    answer: BaseException | None = None
    cause: BaseException | None = None
    for turn, result in zip(turns, settled, strict=True):
        turn.timings["total"] = seconds
        if isinstance(result, TurnResult):
            results.append(result)
            continue
        turn.outcome, turn.error, heard = _failure(result, sampled=len(turn.completion))
        turn.context_digest = b""  # whatever was sampled, no client has received it
        if answer is None:
            answer, cause = heard, result
    return results, answer, cause


def _failure(error: BaseException, *, sampled: int) -> tuple[Outcome, str, BaseException]:
    """Returns what a turn that failed is called on tape, why, and what its caller should hear."""
    if isinstance(error, ProxyError):
        return Outcome.REJECTED, error.message, error
    if isinstance(error, EngineAborted):
        return Outcome.ABORTED, str(error), answer_for(error)
    if isinstance(error, EngineError):
        refused = isinstance(error, EngineRefused | EngineBusy) and not sampled
        return Outcome.REJECTED if refused else Outcome.ENGINE_ERROR, str(error), answer_for(error)
    if isinstance(error, BrokenOff):
        return Outcome.ABORTED, str(error), GenerationEnded(str(error), code=error.code, status=error.status)
    if isinstance(error, ClientGone):
        return Outcome.UNDELIVERED, "the client closed the connection", error
    if isinstance(error, Stopped):
        text = "the server was stopped"
        return Outcome.ABORTED, text, ServerStopping(f"{text}; what was sampled is on tape")
    if isinstance(error, asyncio.CancelledError):
        return Outcome.ABORTED, "the server was stopped", error
    return Outcome.ENGINE_ERROR, f"internal error: {type(error).__name__}: {error}", error
