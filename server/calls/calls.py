"""One call of an agent, in whatever protocol: from its bytes to a turn on tape, and back."""

from collections.abc import Iterable, Mapping
from functools import partial
from urllib.parse import quote

import orjson
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.calls.identity import AGENT_FIELD, Caller, caller_of, session_of, told_of_agent
from tickertape.server.calls.in_flight import Answer, Key, Taken, body_digest
from tickertape.server.calls.limits import AdmissionSlot, Overloaded
from tickertape.server.calls.service import Service, service_of
from tickertape.server.calls.streaming import EVENT_STREAM, LiveResponse, disconnected
from tickertape.server.dialects.dialect import CountsPrompts, Dialect
from tickertape.server.errors import ProxyError
from tickertape.server.observing.request_context import note_error
from tickertape.server.store.store import StoreError
from tickertape.server.trajectories.turn import Outcome
from tickertape.server.turns.off_loop import off_loop
from tickertape.server.turns.raw_prompt import read_prompt
from tickertape.server.turns.replay import complete, go_on
from tickertape.server.turns.request import TurnRequest
from tickertape.server.turns.stream_buffer import StreamBuffer, whole
from tickertape.server.turns.waiters import ClientGone, Waiters

_IGNORED_HEADER = "X-Tickertape-Ignored"
_REPLAYED_HEADER = "X-Tickertape-Replayed"
RESAMPLE_HEADER = "X-Tickertape-Resample"
MIN_VERSION_HEADER = "X-Tickertape-Min-Version"
_CLIENT_CLOSED = 499  # nginx's code for a client that went away; no client reads it


async def answer_call(dialect: Dialect, request: Request) -> Response:
    """Answers an agent's call of the model."""
    service = service_of(request)
    try:
        caller = caller_of(request)
        service.turns.check_tape()
    except ProxyError as error:
        return _response(_refusal(dialect, error, None))
    session_id = caller.session_id
    try:
        place = service.admission.admit(session_id)
    except Overloaded as error:
        if session_id is not None:
            service.refusals.note(session_id, dialect.DIALECT, error.message)
        return _response(_refusal(dialect, error, session_id))
    try:
        return await _answer_admitted(dialect, service, request, caller, place)
    finally:
        place.leave()


async def _answer_admitted(
    dialect: Dialect, service: Service, request: Request, caller: Caller, place: AdmissionSlot
) -> Response:
    """Answers a call that has a place."""
    session_id = caller.session_id
    try:
        body = b"".join([part async for part in request.stream()])  # request.body() would keep it until the answer
    except ClientDisconnect:
        if session_id is not None:
            gone = "the client closed the connection before its request was whole"
            await service.turns.record(session_id, dialect.DIALECT, "", Outcome.UNDELIVERED, error=gone)
        return Response(status_code=_CLIENT_CLOSED)
    key = (session_id or f"{caller.client.hex()} ", body_digest(body))
    may_repeat = RESAMPLE_HEADER not in request.headers and (session_id is not None or _is_retry(request))
    try:
        wanted = await off_loop(len(body), _read, dialect, service, request, body)
        place.widen(wanted.n)
    except ProxyError as error:
        if session_id is not None:
            model = model_of(body)
            await service.turns.record(session_id, dialect.DIALECT, model, Outcome.REJECTED, error=error.message)
        return _response(_refusal(dialect, error, session_id))
    wanted.body_digest = key[1].hex()
    if may_repeat:
        first = session_id or service.in_flight.session_of(key)
        if first is not None and (given := await _given_before(dialect, service, first, wanted)):
            return await _replay(dialect, service, wanted, given) if given.turn_ids else _response(given)
    # From here to the start of the call nothing is waited for: of two requests at once, the second finds the first.
    running = service.in_flight.running(key) if may_repeat else None
    if running is not None:
        taken = await running.taken(partial(disconnected, request))
        if taken is None:
            return Response(status_code=_CLIENT_CLOSED)
        answer = _answer(dialect, service, wanted, taken)
        return await _replay(dialect, service, wanted, answer) if answer.turn_ids else _response(answer)
    del body  # while the call waits it is held no more
    buffer = StreamBuffer(with_tokens=wanted.wants_tokens) if wanted.stream else None
    call = service.in_flight.start(key, partial(_take, dialect, service, caller, key, wanted, buffer), buffer)
    place.keep_until(call.task)
    if buffer is not None:
        writer = dialect.stream_writer(wanted, service.turns.renderers.tokenizer)
        return LiveResponse(call, writer, _headers(None, wanted.ignored), service.heartbeat)
    taken = await call.taken(partial(disconnected, request))
    if taken is None:
        return Response(status_code=_CLIENT_CLOSED)
    return _response(_answer(dialect, service, wanted, taken))


async def answer_count(dialect: CountsPrompts, request: Request) -> Response:
    """Answers how many tokens a prompt has. Nothing is sampled and no session is looked at, so the tape has no turn."""
    service = service_of(request)
    try:
        session_id = session_of(request)
        given = await request.body()
        service.check_size(given)
        wanted = await off_loop(len(given), lambda: _checked(service, dialect.read_count_request(given)))
        count = await off_loop(len(given), service.turns.count_prompt, wanted)
    except ProxyError as error:
        return _response(_refusal(dialect, error, None))
    except ClientDisconnect:
        return Response(status_code=_CLIENT_CLOSED)
    body = orjson.dumps(dialect.write_count(count))
    return _response(Answer(200, body, _headers(session_id, wanted.ignored), session_id))


def _read(dialect: Dialect, service: Service, request: Request, body: bytes) -> TurnRequest:
    service.check_size(body)
    wanted = dialect.read_request(body)
    wanted.n_bytes = len(body)
    wanted.min_version = request.headers.get(MIN_VERSION_HEADER) or None
    if told := told_of_agent(request.headers):
        wanted.fields[AGENT_FIELD] = told
    return _checked(service, wanted)


def _checked(service: Service, wanted: TurnRequest) -> TurnRequest:
    """The request, with what only the served model can tell."""
    service.check_model(wanted.model)
    renderers = service.turns.renderers
    if wanted.prompt is not None:
        wanted.prompt_ids = read_prompt(wanted.prompt, renderers.tokenizer)
    wanted.template_options = renderers.with_thinking(wanted.template_options, wanted.thinking)
    if wanted.effort is not None:
        may_switch = wanted.thinking is None
        options = renderers.with_effort(wanted.template_options, wanted.effort, may_switch=may_switch)
        if options is None:
            wanted.ignored.append(wanted.effort_param)
        else:
            wanted.template_options = options
    service.check_readable(wanted.unreadable)
    wanted.ignored += wanted.unreadable
    service.check_ignored(wanted.ignored)
    return wanted


async def _take(
    dialect: Dialect,
    service: Service,
    caller: Caller,
    key: Key,
    wanted: TurnRequest,
    buffer: StreamBuffer | None,
    waiters: Waiters,
) -> Taken:
    """Takes the turns of a call."""
    turns, named = service.turns, caller.session_id
    try:
        known = await _followed(service, caller, wanted)
    except ProxyError as error:
        return _refused(dialect, error, named, wanted, buffer)
    asked = await off_loop(wanted.n_bytes, turns.asked, wanted)
    known = known or service.recognise(caller.client, asked)
    session_id = known or caller.principal.new_session_id()
    try:
        results = await turns.take(session_id, wanted, asked, is_new=known is None, waiters=waiters, buffer=buffer)
    except ProxyError as error:
        return _refused(dialect, error, session_id, wanted, buffer)
    except ClientGone:
        return Taken(refusal=Answer(_CLIENT_CLOSED, b"", {}, session_id))
    if named is None:
        service.in_flight.remember_session(key, session_id)
        for result in results:
            service.recognition.remember(caller.client, result.turn.context_digest, session_id)
    if buffer is not None:
        buffer.results = results
    return Taken(results)


def _answer(dialect: Dialect, service: Service, wanted: TurnRequest, taken: Taken) -> Answer:
    """Writes the complete answer: of a streamed one, the same events, each choice in one piece, as a retry gets
    them."""
    if taken.refusal is not None:
        return taken.refusal
    results = taken.results
    turn_ids = tuple(result.turn.id for result in results)
    session_id = results[0].turn.session_id
    headers = {**_headers(session_id, wanted.ignored), "X-Turn-Id": ", ".join(turn_ids)}
    tokenizer = service.turns.renderers.tokenizer
    if not wanted.stream:
        body = orjson.dumps(dialect.write_response(wanted, results, tokenizer))
        return Answer(200, body, headers, session_id, turn_ids)
    writer = dialect.stream_writer(wanted, tokenizer)
    pieces = [whole(k, result) for k, result in enumerate(results)]
    body = writer.open([result.turn for result in results]) + writer.write(pieces) + writer.close(results)
    return Answer(200, body, headers, session_id, turn_ids, EVENT_STREAM)


async def _followed(service: Service, caller: Caller, wanted: TurnRequest) -> str | None:
    """Completes a request that goes on from a turn; gives the session, as far as it is known. A request that is refused
    is on tape then."""
    turns, named = service.turns, caller.session_id
    try:
        known = named
        if wanted.partial:
            known = await complete(turns.store, wanted, caller.may_read) or named
        if wanted.follows is None:
            return known
        return await go_on(turns.store, wanted, wanted.follows, caller.may_read, turns.matching)
    except StoreError:  # there is no tape for a turn to be put on
        raise
    except ProxyError as error:
        if named is not None:
            await turns.record(named, wanted.dialect, wanted.model, Outcome.REJECTED, error=error.message)
        raise


async def _given_before(dialect: Dialect, service: Service, session_id: str, wanted: TurnRequest) -> Answer | None:
    """The answer that another process gave to this very request, or this one before it was restarted."""
    window = service.in_flight.window
    since = service.ages.now(window) - window
    try:
        results = await service.turns.answered_before(session_id, wanted, since=since)
    except StoreError as error:
        return _refusal(dialect, error, session_id)
    return None if results is None else _answer(dialect, service, wanted, Taken(results))


async def _replay(dialect: Dialect, service: Service, wanted: TurnRequest, answer: Answer) -> Response:
    """An answer that was sampled for an earlier request. The tape has a turn of its own for this one."""
    first, *_ = answer.turn_ids
    assert answer.session_id is not None  # noqa: S101  (it has turns)
    try:
        await service.turns.record(answer.session_id, dialect.DIALECT, wanted.model, Outcome.REPLAYED, parent_id=first)
    except StoreError as error:
        return _response(_refusal(dialect, error, answer.session_id))
    return _response(answer, {_REPLAYED_HEADER: "true"})


def model_of(body: bytes) -> str:
    """The model that a request asks for, as far as it can be read; for the record of a refused one."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    model = given.get("model") if isinstance(given, dict) else None
    return model if isinstance(model, str) else ""


def _response(answer: Answer, more: Mapping[str, str] | None = None) -> Response:
    headers = {**answer.headers, **(more or {})}
    return Response(answer.body, answer.status, headers, media_type=answer.media_type)


def _refused(
    dialect: Dialect, error: ProxyError, session_id: str | None, wanted: TurnRequest, buffer: StreamBuffer | None
) -> Taken:
    """A call that failed; a client that reads along hears of it, too."""
    if buffer is not None:
        buffer.error = error
    return Taken(refusal=_refusal(dialect, error, session_id, wanted.ignored))


def _refusal(dialect: Dialect, error: ProxyError, session_id: str | None, ignored: Iterable[str] = ()) -> Answer:
    note_error(error.code, error.param)
    body = orjson.dumps(dialect.write_error(error))
    return Answer(error.status, body, _headers(session_id, ignored) | dict(error.headers), session_id)


def _headers(session_id: str | None, ignored: Iterable[str]) -> dict[str, str]:
    headers = {} if session_id is None else {SESSION_HEADER: session_id}
    if named := ", ".join(quote(name, safe="[]._-") for name in ignored):
        headers[_IGNORED_HEADER] = named[:2000]
    return headers


def _is_retry(request: Request) -> bool:
    """Returns True if an SDK says so itself: OpenAI's and Anthropic's count their tries."""
    count = request.headers.get("x-stainless-retry-count", "")
    return count.isdecimal() and int(count) > 0
