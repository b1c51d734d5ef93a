"""One turn from request to tape: match → render → generate → parse → commit.

No protocol and no HTTP here. Whatever happens, the turn is on tape before the caller hears of it (DURABLE), with an
outcome (NOTHING-SILENT).
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from tickertape.clients.engines.engine import Engine, EngineInfo, Sampling
from tickertape.clients.engines.errors import EngineAborted
from tickertape.renderers.format import History
from tickertape.renderers.messages import Message
from tickertape.renderers.renderer import Renderer
from tickertape.server.answers import read_answer
from tickertape.server.audience import Audience
from tickertape.server.dialects.request import TurnRequest, TurnResult
from tickertape.server.errors import InvalidRequest, SessionClosed, StoreFailed
from tickertape.server.generation import Generation
from tickertape.server.renderer_pool import RendererPool
from tickertape.server.sampling import complete_sampling, recorded
from tickertape.server.sessions import Sessions
from tickertape.server.settling import Settled, settle, together
from tickertape.server.store.store import Store, StoreError
from tickertape.server.trajectories import forks
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import context_digests, value_digest
from tickertape.server.trajectories.normalising import Policy, default
from tickertape.server.trajectories.preparing import NothingToContinue, Prepared, Rules, prepare, prepare_continuation
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Outcome, Turn

_random = random.Random(os.urandom(32))  # noqa: S311  (names, not secrets)

WriteMessage = Callable[[Message], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Task:
    """What the turns of one request have in common."""

    request: TurnRequest
    asked: Asked
    renderer: Renderer
    prepared: Prepared
    write_message: WriteMessage


class Turns:
    """Takes turns on one engine.

    Args:
        engine: started.
        info: what the engine said of itself.
        renderers: the model's renderer, by template options.
        store: the tape.
        sessions: the live trees over it.
        history: what becomes of old thoughts and the like.
        policy: what of a message counts when histories are compared.
    """

    def __init__(
        self,
        engine: Engine,
        info: EngineInfo,
        renderers: RendererPool,
        store: Store,
        sessions: Sessions,
        *,
        history: History = History.EXACT,
        policy: Policy = default,
    ) -> None:
        self.engine = engine
        self.info = info
        self.renderers = renderers
        self.store = store
        self.sessions = sessions
        self.history = history
        self.policy = policy

    def asked(self, messages: Sequence[Message]) -> Asked:
        """A request's messages as they are looked for in the session's tree."""
        return Asked(messages, context_digests(messages, self.policy), self.policy)

    async def take(
        self,
        session_id: str,
        request: TurnRequest,
        asked: Asked,
        write_message: WriteMessage,
        *,
        is_new: bool,
        audience: Audience,
    ) -> list[TurnResult]:
        """Takes one turn of a session for each choice. No lock is held: concurrent calls of a session become siblings.

        Args:
            session_id: the session.
            request: what is asked.
            asked: its messages, see :meth:`asked`.
            write_message: an assistant's message in the client's protocol, for the record.
            is_new: whether the session was made for this very request.
            audience: who waits for the answer.

        Raises:
            ProxyError: a turn failed; all are on tape with their outcomes, unless the tape itself failed.
            ClientGone: they are on tape as undelivered.
        """
        started = time.perf_counter()
        turns = [_opened(session_id, request, asked, self.info) for _ in range(request.n)]
        tree = await self._tree(session_id, is_new=is_new)
        settled: Sequence[Settled]
        try:
            self._refuse_closed(session_id)
            task, samplings = self._prepare(tree, turns, request, asked, write_message)
            for turn in turns:
                turn.timings["prepare"] = time.perf_counter() - started
            with audience.generating():
                pairs = zip(turns, samplings, strict=True)
                settled = await together([self._sample(turn, sampling, task) for turn, sampling in pairs])
        except BaseException as error:  # noqa: BLE001  (raised below, when it is on tape)
            settled = [error] * len(turns)
        results, answer, cause = settle(turns, settled, time.perf_counter() - started)
        commits = [self._commit(tree, turn) for turn in turns]
        await (commits[0] if len(commits) == 1 else asyncio.gather(*commits))
        if answer is None:
            return results
        if answer is cause:
            raise answer
        raise answer from cause

    async def record(
        self,
        session_id: str,
        dialect: str,
        model: str,
        outcome: Outcome,
        *,
        parent_id: str | None = None,
        error: str | None = None,
    ) -> None:
        """Puts a call on tape for which nothing was sampled: one that could not even be read, or a retry.

        Raises:
            StoreFailed: the tape cannot be written.
        """
        turn = Turn(
            id=_new_id(),
            session_id=session_id,
            parent_id=parent_id,
            created_at=time.time(),
            dialect=dialect,
            model=model,
            outcome=outcome,
            error=error,
        )
        await self._commit(await self._tree(session_id, is_new=False), turn)

    def forget(self, session_id: str) -> None:
        """The session was taken off the tape; its id may be used anew."""
        self.sessions.forget(session_id)
        self.store.note_deleted(session_id)

    # The steps.

    def _refuse_closed(self, session_id: str) -> None:
        if self.store.is_closed(session_id):
            raise SessionClosed(f"session {session_id!r} is finished or discarded: a new rollout needs a new session")

    async def _tree(self, session_id: str, *, is_new: bool) -> SessionTree:
        if is_new:
            return self.sessions.create(session_id)
        try:
            return await self.sessions.get(session_id)
        except StoreError as error:
            raise StoreFailed(str(error)) from error

    def _prepare(
        self,
        tree: SessionTree,
        turns: Sequence[Turn],
        request: TurnRequest,
        asked: Asked,
        write_message: WriteMessage,
    ) -> tuple[_Task, list[Sampling]]:
        """Makes the prompt and enters it on the turns, which have begun when this returns."""
        try:
            renderer = self.renderers.get(request.template_options)
            rules = Rules(request.tools, turns[0].tools_digest, value_digest(request.template_options), self.history)
            find = prepare_continuation if request.continues else prepare
            prepared = find(tree, renderer, asked, rules)
        except (InvalidRequest, ValueError) as error:
            turns[0].messages = [message.to_openai() for message in request.messages]
            if isinstance(error, NothingToContinue):
                raise InvalidRequest(str(error), param="continue_final_message") from error
            if isinstance(error, ValueError):  # what this model's format or vocabulary cannot express
                raise InvalidRequest(str(error), param="messages", code="cannot_render") from error
            raise
        added = [message.to_openai() for message in request.messages[prepared.covered :]]
        for number, turn in enumerate(turns):
            _enter(turn, prepared, added, number)
        samplings = [
            complete_sampling(
                request,
                renderer,
                prompt_tokens=len(prepared.prompt_ids),
                max_context=self.info.max_context,
                number=number,
            )
            for number in range(len(turns))
        ]
        for turn, sampling in zip(turns, samplings, strict=True):
            turn.sampling = recorded(sampling)
            tree.begin(turn, prepared.parent)
        return _Task(request, asked, renderer, prepared, write_message), samplings

    async def _sample(self, turn: Turn, sampling: Sampling, task: _Task) -> TurnResult:
        """Fills in ``turn`` up to its outcome. What it raises midway is on ``turn`` as far as it got."""
        started = time.perf_counter()
        generation = Generation()
        prompt_ids = task.prepared.prompt_ids
        try:
            async with aclosing(self.engine.generate(prompt_ids, sampling, request_id=turn.id)) as chunks:
                async for chunk in chunks:
                    generation.take(chunk)
        finally:
            generation.record_on(turn)
            turn.timings["engine"] = time.perf_counter() - started
        turn.usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": len(turn.completion)}
        if turn.finish_reason == "abort":
            raise EngineAborted("the engine aborted the generation; what it sampled is on tape")
        read = read_answer(
            turn,
            task.renderer,
            task.request,
            answered=task.prepared.answered,
            prompt_end=task.prepared.opening.tolist(),
        )
        turn.response = task.write_message(read.told)
        index, digests = turn.answer_index, task.asked.digests
        before = digests[index - 1] if index else b""
        turn.context_digest = context_digests([read.repeated], self.policy, after=before, first=index)[-1]
        turn.digests["answer"] = forks.answer_digest(read.repeated, self.policy, index)
        turn.digests["line"] = forks.longest_line_digest(read.repeated.text)
        return TurnResult(
            turn=turn,
            message=read.told,
            prompt_tokens=len(prompt_ids),
            top_logprobs=generation.tops if sampling.top_logprobs else None,
        )

    async def _commit(self, tree: SessionTree, turn: Turn) -> None:
        turn.seq = tree.take_seq()
        options_digest = value_digest(turn.template_options)
        try:
            await self.store.commit(turn, options_digest)
        except StoreError as error:
            raise StoreFailed(str(error)) from error
        tree.add(turn, options_digest)


def _opened(session_id: str, request: TurnRequest, asked: Asked, info: EngineInfo) -> Turn:
    return Turn(
        id=_new_id(),
        session_id=session_id,
        created_at=time.time(),
        dialect=request.dialect,
        model=request.model,
        tools=request.tools,
        tools_digest=value_digest(request.tools),
        template_options=request.template_options,
        request_fields=request.fields,
        ignored_fields=request.ignored,
        engine=f"{info.name} {info.url}",
        outcome=Outcome.ABORTED,
        digests={"request": asked.digests[-1].hex()},
    )


def _enter(turn: Turn, prepared: Prepared, added: list[dict[str, Any]], number: int) -> None:
    turn.parent_id = prepared.parent.id if prepared.parent else None
    turn.first_message = prepared.covered
    turn.messages = added
    turn.prompt_delta = prepared.prompt_delta
    turn.prompt_spans = prepared.prompt_spans
    turn.fork_reason = forks.N if number else prepared.fork_reason


def _new_id() -> str:
    """128 random bits. Not from the kernel: while that is asked, another thread may take the interpreter for
    milliseconds."""
    return f"{_random.getrandbits(128):032x}"
