"""One turn from request to tape: match → render → generate → parse → commit.

No protocol and no HTTP here. Whatever happens, the turn is on tape before the caller hears of it (DURABLE), with an
outcome (NOTHING-SILENT).
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import fields, replace
from typing import Any

from tickertape.clients.engines.engine import Engine, EngineInfo, Sampling
from tickertape.clients.engines.errors import EngineAborted, EngineError, EngineRefused
from tickertape.renderers.format import History
from tickertape.renderers.messages import Message
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.renderer import Renderer
from tickertape.server.dialects.request import TurnRequest, TurnResult
from tickertape.server.errors import ContextLengthExceeded, InvalidRequest, ProxyError, SessionClosed, StoreFailed
from tickertape.server.errors import from_engine as answer_for
from tickertape.server.generation import Generation
from tickertape.server.renderer_pool import RendererPool
from tickertape.server.sessions import Sessions
from tickertape.server.store.store import Store, StoreError
from tickertape.server.trajectories.matching import context_digests, value_digest
from tickertape.server.trajectories.preparing import Prepared, prepare
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Outcome, Turn

_random = random.Random(os.urandom(32))  # noqa: S311  (names, not secrets)

WriteMessage = Callable[[Message], dict[str, Any]]
ClientGoneSignal = Callable[[], Awaitable[None]]


class ClientGone(Exception):
    """Nobody waits for the answer any more; the turn is on tape as undelivered."""


class Turns:
    """Takes turns on one engine.

    Args:
        engine: started.
        info: what the engine said of itself.
        renderers: the model's renderer, by template options.
        store: the tape.
        sessions: the live trees over it.
        history: what becomes of old thoughts and the like.
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
    ) -> None:
        self.engine = engine
        self.info = info
        self.renderers = renderers
        self.store = store
        self.sessions = sessions
        self.history = history

    async def take(
        self,
        session_id: str,
        request: TurnRequest,
        write_message: WriteMessage,
        *,
        is_new: bool,
        client_gone: ClientGoneSignal,
    ) -> TurnResult:
        """Takes one turn of a session. No lock is held: concurrent calls of a session become siblings.

        Args:
            session_id: the session.
            request: what is asked.
            write_message: an assistant's message in the client's protocol, for the record.
            is_new: whether the session was made for this very request.
            client_gone: returns when nobody waits for the answer any more.

        Raises:
            ProxyError: the turn failed; it is on tape with its outcome, unless the tape itself failed.
            ClientGone: it is on tape as undelivered.
        """
        turn = _opened(session_id, request, self.info)
        started = time.perf_counter()
        tree = await self._tree(session_id, is_new=is_new)
        try:
            result = await self._sample(tree, turn, request, write_message, client_gone)
        except BaseException as error:
            turn.timings["total"] = time.perf_counter() - started
            turn.outcome, turn.error, answer = _failure(error, sampled=len(turn.completion))
            await asyncio.shield(self._commit(tree, turn))
            if answer is error:
                raise
            raise answer from error
        turn.timings["total"] = time.perf_counter() - started
        await self._commit(tree, turn)
        return result

    async def record_rejected(self, session_id: str, dialect: str, model: str, error: ProxyError) -> None:
        """Puts a request on tape that could not even be read.

        Raises:
            StoreFailed: the tape cannot be written.
        """
        turn = Turn(
            id=_new_id(),
            session_id=session_id,
            created_at=time.time(),
            dialect=dialect,
            model=model,
            outcome=Outcome.REJECTED,
            error=error.message,
        )
        await self._commit(await self._tree(session_id, is_new=False), turn)

    def forget(self, session_id: str) -> None:
        """The session was taken off the tape; its id may be used anew."""
        self.sessions.forget(session_id)
        self.store.note_deleted(session_id)

    # The steps.

    async def _sample(
        self,
        tree: SessionTree,
        turn: Turn,
        request: TurnRequest,
        write_message: WriteMessage,
        client_gone: ClientGoneSignal,
    ) -> TurnResult:
        """Fills in ``turn`` up to its outcome. What it raises midway is on ``turn`` as far as it got."""
        if self.store.is_closed(tree.session_id):
            raise SessionClosed(
                f"the session {tree.session_id!r} is finished or discarded: a new rollout needs a new session"
            )
        started = time.perf_counter()
        digests = context_digests(request.messages)
        renderer = self.renderers.get(request.template_options)
        prepared = self._prepare(tree, renderer, turn, request, digests)
        sampling = self._sampling(request, renderer, len(prepared.prompt_ids))
        turn.sampling = _recorded(sampling)
        prepared_at = time.perf_counter()
        turn.timings["prepare"] = prepared_at - started

        generation = Generation()
        try:
            await self._generate(turn.id, prepared, sampling, generation, client_gone)
        finally:
            generation.record_on(turn)
            turn.timings["engine"] = time.perf_counter() - prepared_at
        turn.usage = {"prompt_tokens": len(prepared.prompt_ids), "completion_tokens": len(turn.completion)}
        if turn.finish_reason == "abort":
            raise EngineAborted("the engine aborted the generation; what it sampled is on tape")
        message = _parsed(turn, renderer, request)
        turn.response = write_message(message)
        turn.context_digest = context_digests([message], after=digests[-1])[-1]
        return TurnResult(
            turn=turn,
            message=message,
            prompt_tokens=len(prepared.prompt_ids),
            top_logprobs=generation.tops if sampling.top_logprobs else None,
        )

    async def _tree(self, session_id: str, *, is_new: bool) -> SessionTree:
        if is_new:
            return self.sessions.create(session_id)
        try:
            return await self.sessions.get(session_id)
        except StoreError as error:
            raise StoreFailed(str(error)) from error

    def _prepare(
        self, tree: SessionTree, renderer: Renderer, turn: Turn, request: TurnRequest, digests: list[bytes]
    ) -> Prepared:
        turn.messages = [message.to_openai() for message in request.messages]
        try:
            prepared = prepare(
                tree,
                renderer,
                request.messages,
                digests,
                tools=request.tools,
                tools_digest=turn.tools_digest,
                options_digest=value_digest(request.template_options),
                history=self.history,
            )
        except ValueError as error:  # what this model's format or vocabulary cannot express
            raise InvalidRequest(str(error), param="messages", code="cannot_render") from error
        turn.parent_id = prepared.parent.id if prepared.parent else None
        turn.first_message = prepared.covered
        turn.messages = turn.messages[prepared.covered :]
        turn.prompt_delta = prepared.prompt_delta
        turn.prompt_spans = prepared.prompt_spans
        turn.fork_reason = prepared.fork_reason
        return prepared

    def _sampling(self, request: TurnRequest, renderer: Renderer, prompt_tokens: int) -> Sampling:
        room = self.info.max_context - prompt_tokens
        if room < 1:
            raise ContextLengthExceeded(
                f"the prompt has {prompt_tokens} tokens, which leaves no room for an answer in this model's context of "
                f"{self.info.max_context} tokens"
            )
        sampling = request.sampling
        self._check_ids("logit_bias", sampling.logit_bias)
        self._check_ids("stop_token_ids", sampling.stop_token_ids)
        stops = () if sampling.ignore_eos else renderer.get_stop_sequences()
        return replace(
            sampling,
            max_tokens=min(request.max_tokens or room, room),
            stop_token_ids=tuple(dict.fromkeys([*stops, *sampling.stop_token_ids])),
        )

    def _check_ids(self, name: str, token_ids: Any) -> None:
        size = self.renderers.tokenizer.vocab_size
        for token_id in token_ids:
            if not 0 <= token_id < size:
                raise InvalidRequest(f"{name}: {token_id} is no token id (there are 0 to {size - 1})", param=name)

    async def _generate(
        self,
        request_id: str,
        prepared: Prepared,
        sampling: Sampling,
        generation: Generation,
        client_gone: ClientGoneSignal,
    ) -> None:
        """Fills ``generation`` until the engine is done or nobody waits."""

        async def drain() -> None:
            async with aclosing(self.engine.generate(prepared.prompt_ids, sampling, request_id=request_id)) as chunks:
                async for chunk in chunks:
                    generation.take(chunk)

        draining = asyncio.ensure_future(drain())
        watching = asyncio.ensure_future(client_gone())
        try:
            await asyncio.wait((draining, watching), return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                raise ClientGone
            await draining
        finally:
            watching.cancel()
            if not draining.done():
                draining.cancel()  # which closes the engine's iterator, and so aborts at the engine
                await asyncio.gather(draining, return_exceptions=True)

    async def _commit(self, tree: SessionTree, turn: Turn) -> None:
        turn.seq = tree.take_seq()
        options_digest = value_digest(turn.template_options)
        try:
            await self.store.commit(turn, options_digest)
        except StoreError as error:
            raise StoreFailed(str(error)) from error
        tree.add(turn, options_digest)


def _failure(error: BaseException, *, sampled: int) -> tuple[Outcome, str, BaseException]:
    """What a turn that failed is called on tape, why, and what its caller should hear."""
    if isinstance(error, ProxyError):
        return Outcome.REJECTED, error.message, error
    if isinstance(error, EngineAborted):
        return Outcome.ABORTED, str(error), answer_for(error)
    if isinstance(error, EngineError):
        refused = isinstance(error, EngineRefused) and not sampled
        return Outcome.REJECTED if refused else Outcome.ENGINE_ERROR, str(error), answer_for(error)
    if isinstance(error, ClientGone):
        return Outcome.UNDELIVERED, "the client closed the connection", error
    if isinstance(error, asyncio.CancelledError):
        return Outcome.ABORTED, "the server was stopped", error
    return Outcome.ENGINE_ERROR, f"internal error: {type(error).__name__}: {error}", error


def _opened(session_id: str, request: TurnRequest, info: EngineInfo) -> Turn:
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
    )


def _parsed(turn: Turn, renderer: Renderer, request: TurnRequest) -> Message:
    """The completion as a message; sets the turn's outcome."""
    prompt_end = turn.prompt_delta.tolist()
    parsed = renderer.parse_response(
        turn.completion.tolist(), request.tools, read_calls=request.reads_calls, prompt_ids=prompt_end
    )
    turn.calls = [{"status": call.status, "raw": call.raw} for call in parsed.calls]
    turn.outcome = _outcome(turn, parsed)
    # A model that writes ids itself is to read them again with the results.
    calls = tuple(replace(call, id=call.id or f"call_{turn.id[:16]}{k:02}") for k, call in enumerate(parsed.tool_calls))
    message = replace(parsed.message, tool_calls=calls)
    return _without_stop_string(message, turn.stop_reason) if isinstance(turn.stop_reason, str) else message


def _outcome(turn: Turn, parsed: ParsedResponse) -> Outcome:
    if turn.finish_reason == "length":
        return Outcome.LENGTH
    if not parsed.calls:
        return Outcome.STOP
    invalid = (CallStatus.INVALID_JSON, CallStatus.MALFORMED)
    readable = any(call.call is not None and call.status not in invalid for call in parsed.calls)
    return Outcome.TOOL_CALLS if readable else Outcome.PARSE_FAILED


def _without_stop_string(message: Message, stop: str) -> Message:
    """The message up to the stop string, which OpenAI's answers leave out. The tape keeps it."""
    if stop in message.text:
        return replace(message, content=message.text[: message.text.rindex(stop)])
    if message.reasoning and stop in message.reasoning:
        return replace(message, reasoning=message.reasoning[: message.reasoning.rindex(stop)])
    return message


def _recorded(sampling: Sampling) -> dict[str, Any]:
    values = {field.name: getattr(sampling, field.name) for field in fields(sampling)}
    values["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return values


def _new_id() -> str:
    """128 random bits. Not from the kernel: while that is asked, another thread may take the interpreter for
    milliseconds."""
    return f"{_random.getrandbits(128):032x}"
