"""One turn from request to tape: match → render → generate → parse → commit.

No protocol and no HTTP here. Whatever happens, the turn is on tape before the caller hears of it (DURABLE), with an
outcome (NOTHING-SILENT).
"""

import time
from collections.abc import Sequence

from tickertape.clients.engines.engine import EngineInfo, Sampling
from tickertape.clients.engines.pool import EnginePool
from tickertape.renderers.format import History
from tickertape.server.errors import InvalidRequest, SessionClosed
from tickertape.server.ids import new_id
from tickertape.server.observing.metrics import Metrics
from tickertape.server.observing.request_context import note_opened
from tickertape.server.policy.gate import PolicyGate
from tickertape.server.store.store import Store, StoreError
from tickertape.server.trajectories.echoes import with_echoes
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import context_digests, token_digest, value_digest
from tickertape.server.trajectories.normalising import MatchPolicy, default
from tickertape.server.trajectories.preparing import (
    NothingToContinue,
    Rules,
    prepare,
    prepare_continuation,
    prepare_tokens,
)
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Outcome, Turn
from tickertape.server.turns.generator import Generator
from tickertape.server.turns.limits import TurnLimits
from tickertape.server.turns.off_loop import off_loop
from tickertape.server.turns.outcome import Settled, settle, together
from tickertape.server.turns.records import SENT_OTHERWISE, enter_prompt, opened, sent_otherwise
from tickertape.server.turns.renderer_pool import RendererPool
from tickertape.server.turns.repeats import answered_before
from tickertape.server.turns.request import TurnRequest, TurnResult
from tickertape.server.turns.sampler import Sampler, Task
from tickertape.server.turns.sampling import complete_sampling, recorded
from tickertape.server.turns.sessions import Sessions
from tickertape.server.turns.stream_buffer import StreamBuffer
from tickertape.server.turns.structure import structure_of
from tickertape.server.turns.waiters import Waiters


class Turns:
    """Takes turns.

    Args:
        pool: the engines, started.
        renderers: the model's renderer, by template options.
        store: the tape.
        sessions: the live trees over it.
        history: what becomes of old thoughts and the like.
        matching: what of a message counts when histories are compared.
        limits: what may be asked for.
    """

    def __init__(
        self,
        pool: EnginePool,
        renderers: RendererPool,
        store: Store,
        sessions: Sessions,
        *,
        history: History = History.EXACT,
        matching: MatchPolicy = default,
        limits: TurnLimits | None = None,
    ) -> None:
        self.pool = pool
        self.policy = PolicyGate(pool)
        self.renderers = renderers
        self.store = store
        self.sessions = sessions
        self.history = history
        self.matching = matching
        self.limits = limits or TurnLimits()
        self.metrics = Metrics()
        generator = Generator(pool, self.policy, renderers.tokenizer)
        self._sampler = Sampler(generator, matching, self.limits)

    @property
    def info(self) -> EngineInfo:
        """Returns what the engines have in common."""
        return self.pool.info

    def asked(self, request: TurnRequest) -> Asked:
        """Returns what a request asks, as it is looked for in the session's tree."""
        if request.prompt_ids is not None:
            return Asked([], [token_digest(request.prompt_ids)], self.matching, request.prompt_ids)
        return Asked(request.messages, context_digests(request.messages, self.matching), self.matching)

    async def take(
        self,
        session_id: str,
        request: TurnRequest,
        asked: Asked,
        *,
        is_new: bool,
        waiters: Waiters,
        buffer: StreamBuffer | None = None,
    ) -> list[TurnResult]:
        """Takes one turn of a session for each choice. No lock is held: concurrent calls of a session become siblings.

        Args:
            session_id: the session.
            request: what is asked.
            asked: its messages, see :meth:`asked`.
            is_new: whether the session was made for this very request.
            waiters: who waits for the answer.
            buffer: gets it while it is sampled, if a client reads along.

        Raises:
            ProxyError: a turn failed; all are on tape with their outcomes.
            StoreError: the tape fails: nothing was sampled, or it is kept until the tape can take it.
            ClientGone: they are on tape as undelivered.
        """
        self.check_tape()
        started = time.perf_counter()
        turns = [opened(session_id, request, asked) for _ in range(request.n)]
        note_opened(*turns)
        tree = await self._tree(session_id, is_new=is_new)
        settled: Sequence[Settled]
        try:
            asked = await off_loop(request.n_bytes, with_echoes, tree, asked)
            for turn in turns:
                turn.digests["request"] = asked.digests[-1].hex()
            self._refuse_closed(session_id)
            self._refuse_full(tree)
            task, samplings = await self._prepare(tree, turns, request, asked, buffer)
            for turn in turns:
                turn.timings["prepare"] = time.perf_counter() - started
            with waiters.generating():
                choices = enumerate(zip(turns, samplings, strict=True))
                settled = await together(
                    [self._sampler.sample(k, turn, sampling, task) for k, (turn, sampling) in choices]
                )
        except BaseException as error:  # noqa: BLE001  (raised below, when it is on tape)
            settled = [error] * len(turns)
        results, answer, cause = settle(turns, settled, time.perf_counter() - started)
        stream = buffer is not None
        await self._commit(tree, *turns, stream=stream)
        self.metrics.taken(turns, started, stream=stream)
        if answer is None:
            return results
        if answer is cause:
            raise answer
        raise answer from cause

    async def answered_before(self, session_id: str, request: TurnRequest, *, since: float) -> list[TurnResult] | None:
        """Returns what the session's turns answered the very same request with, if they did: see :mod:`repeats`.

        Raises:
            StoreError: the tape cannot be read.
        """
        tree = await self._tree(session_id, is_new=False)
        if not tree.was_sent(request.body_digest):
            return None
        turns = await self.store.turns(session_id)
        return answered_before(turns or [], request, self.renderers, since=since)

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
            StoreError: the tape cannot be written.
        """
        self.check_tape()
        turn = Turn(
            id=new_id(),
            session_id=session_id,
            parent_id=parent_id,
            created_at=time.time(),
            dialect=dialect,
            model=model,
            outcome=outcome,
            error=error,
        )
        note_opened(turn)
        await self._commit(await self._tree(session_id, is_new=False), turn)

    def count_prompt(self, request: TurnRequest) -> int:
        """Counts the tokens of the request's messages as a conversation of their own. No session is looked at.

        Raises:
            InvalidRequest: the model's format cannot express them.
        """
        renderer = self.renderers.get(request.template_options)
        try:
            return len(renderer.build_generation_prompt(request.messages, request.tools).token_ids)
        except ValueError as error:
            raise _cannot_render(error) from error

    def forget(self, session_id: str) -> None:
        """The session was taken off the tape; its id may be used anew."""
        self.sessions.forget(session_id)
        self.store.note_deleted(session_id)

    def check_tape(self) -> None:
        """Refuses a call while the tape is known to fail, before it costs anything.

        Raises:
            StoreError: it is.
        """
        self.store.check()

    # The steps.

    def _refuse_closed(self, session_id: str) -> None:
        if self.store.is_closed(session_id):
            raise SessionClosed(f"session {session_id!r} is finished or discarded: a new rollout needs a new session")

    def _refuse_full(self, tree: SessionTree) -> None:
        most = self.limits.session_turns
        if most is not None and tree.complete_to >= most:
            text = f"session {tree.session_id!r} has {tree.complete_to} turns, the most is {most}: open another one"
            raise InvalidRequest(text, param="session_id", code="session_turns_exceeded")

    async def _tree(self, session_id: str, *, is_new: bool) -> SessionTree:
        if is_new:
            return self.sessions.create(session_id)
        return await self.sessions.get(session_id)

    async def _prepare(
        self,
        tree: SessionTree,
        turns: Sequence[Turn],
        request: TurnRequest,
        asked: Asked,
        buffer: StreamBuffer | None,
    ) -> tuple[Task, list[Sampling]]:
        """Makes the prompt and enters it on the turns, which have begun when this returns."""
        try:
            renderer = self.renderers.get(request.template_options)
            rules = Rules(request.tools, turns[0].tools_digest, value_digest(request.template_options), self.history)
            if asked.prompt_ids is not None:
                prepared = await off_loop(request.n_bytes, prepare_tokens, tree, asked, asked.prompt_ids)
            else:
                find = prepare_continuation if request.continues else prepare
                prepared = await off_loop(request.n_bytes, find, tree, renderer, asked, rules)
        except (InvalidRequest, ValueError) as error:
            turns[0].messages = [message.to_openai() for message in request.messages]
            if isinstance(error, NothingToContinue):
                raise InvalidRequest(str(error), param="continue_final_message") from error
            if isinstance(error, ValueError):
                raise _cannot_render(error) from error
            raise
        added = [message.to_openai() for message in request.messages[prepared.covered :]]
        if (sent := sent_otherwise(request, prepared)) is not None:
            request.fields[SENT_OTHERWISE] = sent.to_openai()
        for number, turn in enumerate(turns):
            enter_prompt(turn, prepared, added, number)
        structure = structure_of(request, renderer, prepared.opening.tolist(), self.info)
        samplings = [
            complete_sampling(
                request,
                renderer,
                prompt_tokens=len(prepared.prompt_ids),
                info=self.info,
                limits=self.limits.sampling,
                structure=structure,
                number=number,
            )
            for number in range(len(turns))
        ]
        for turn, sampling in zip(turns, samplings, strict=True):
            turn.sampling = recorded(sampling)
            tree.begin(turn, prepared.parent)
        if buffer is not None:
            buffer.turns = turns
        return Task(request, asked, renderer, prepared, buffer), samplings

    async def _commit(self, tree: SessionTree, turn: Turn, *others: Turn, stream: bool = False) -> None:
        """Of one call: the turns are all on tape, or none of them is."""
        options_digest = value_digest(turn.template_options)
        began = time.perf_counter()
        try:
            await self.store.commit(turn, options_digest, *others)
        except StoreError:
            self.metrics.commit_failures.add()
            for each in (turn, *others):
                tree.give_up(each)
            raise
        for each in (turn, *others):
            tree.add(each, options_digest)
            self.metrics.committed(each, began, stream=stream)


def _cannot_render(error: ValueError) -> InvalidRequest:
    """Of what the model's format or vocabulary cannot express."""
    return InvalidRequest(str(error), param="messages", code="cannot_render")
