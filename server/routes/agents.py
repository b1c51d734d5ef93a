"""What agents call."""

from collections.abc import Iterable, Mapping
from functools import partial
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from tickertape.server.audience import Audience, ClientGone
from tickertape.server.dialects import chat
from tickertape.server.errors import InvalidRequest, ProxyError, StoreFailed, openai_error
from tickertape.server.retries import Answer, body_digest
from tickertape.server.routes.identity import SESSION_HEADER, new_session_id, session_of
from tickertape.server.service import Service, service_of
from tickertape.server.trajectories.turn import Outcome

router = APIRouter(tags=["agents"])

_CHAT_PATHS = ("/v1/chat/completions", "/sessions/{session_id}/v1/chat/completions")
_MODELS_PATHS = ("/v1/models", "/sessions/{session_id}/v1/models")
_LATER = {
    "/v1/completions": "plain completions are",
    "/v1/responses": "the Responses protocol is",
    "/v1/messages": "Anthropic's Messages protocol is",
    "/v1/messages/count_tokens": "Anthropic's Messages protocol is",
}
_IGNORED_HEADER = "X-Tickertape-Ignored"
_REPLAYED_HEADER = "X-Tickertape-Replayed"
_RESAMPLE_HEADER = "X-Tickertape-Resample"
_CLIENT_CLOSED = 499  # nginx's code for a client that went away; nobody reads it


async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions."""
    service = service_of(request)
    try:
        session_id = session_of(request)
    except ProxyError as error:
        return _response(_refusal(error, None))
    try:
        body = await request.body()
    except ClientDisconnect:
        if session_id is not None:
            gone = "the client closed the connection before its request was whole"
            await service.turns.record(session_id, chat.DIALECT, "", Outcome.UNDELIVERED, error=gone)
        return Response(status_code=_CLIENT_CLOSED)
    client = _client_of(request)
    key = (session_id or f"{client} ", body_digest(body))
    may_repeat = _RESAMPLE_HEADER not in request.headers and (session_id is not None or _is_retry(request))
    if may_repeat and (given := service.retries.given(key)):
        return await _replay(service, body, given)
    running = service.retries.running(key) if may_repeat else None
    call = running or service.retries.start(key, partial(_call, service, session_id, client, body))
    answer = await call.answer(partial(_disconnected, request))
    if answer is None:
        return Response(status_code=_CLIENT_CLOSED)
    return await _replay(service, body, answer) if running and answer.turn_ids else _response(answer)


async def _call(service: Service, named: str | None, client: str, body: bytes, audience: Audience) -> Answer:
    """Reads the request, takes its turns, writes the answer."""
    try:
        wanted = chat.read_request(body)
        service.check_model(wanted.model)
        service.check_ignored(wanted.ignored)
    except ProxyError as error:
        if named is not None:
            model = chat.model_of(body)
            await service.turns.record(named, chat.DIALECT, model, Outcome.REJECTED, error=error.message)
        return _refusal(error, named)
    asked = service.turns.asked(wanted.messages)
    known = named or service.recognise(client, asked.digests)
    session_id = known or new_session_id()
    try:
        results = await service.turns.take(
            session_id, wanted, asked, chat.write_message, is_new=known is None, audience=audience
        )
    except ProxyError as error:
        return _refusal(error, session_id, wanted.ignored)
    except ClientGone:
        return Answer(_CLIENT_CLOSED, b"", {}, session_id)
    if named is None:
        for result in results:
            service.recognition.remember(client, result.turn.context_digest, session_id)
    token_bytes = service.turns.renderers.tokenizer.token_bytes
    answer = chat.write_response(results, token_bytes, wants_logprobs=wanted.wants_logprobs)
    turn_ids = tuple(result.turn.id for result in results)
    headers = {**_headers(session_id, wanted.ignored), "X-Turn-Id": ", ".join(turn_ids)}
    return Answer(200, orjson.dumps(answer), headers, session_id, turn_ids)


async def _replay(service: Service, body: bytes, answer: Answer) -> Response:
    """An answer that was sampled for an earlier request. The tape has a turn of its own for this one."""
    first, *_ = answer.turn_ids
    assert answer.session_id is not None  # noqa: S101  (it has turns)
    try:
        await service.turns.record(
            answer.session_id, chat.DIALECT, chat.model_of(body), Outcome.REPLAYED, parent_id=first
        )
    except StoreFailed as error:
        return _response(_refusal(error, answer.session_id))
    return _response(answer, {_REPLAYED_HEADER: "true"})


def _response(answer: Answer, more: Mapping[str, str] | None = None) -> Response:
    headers = {**answer.headers, **(more or {})}
    return Response(answer.body, answer.status, headers, media_type="application/json")


def _refusal(error: ProxyError, session_id: str | None, ignored: Iterable[str] = ()) -> Answer:
    return Answer(error.status, orjson.dumps(openai_error(error)), _headers(session_id, ignored), session_id)


def _client_of(request: Request) -> str:
    """What clients without a session id are told apart by."""
    return request.headers.get("Authorization") or request.headers.get("x-api-key", "")


def _is_retry(request: Request) -> bool:
    """Whether an SDK says so itself: OpenAI's and Anthropic's count their tries."""
    count = request.headers.get("x-stainless-retry-count", "")
    return count.isdecimal() and int(count) > 0


async def models(request: Request) -> Response:
    """The models that are served, in OpenAI's shape."""
    service = service_of(request)
    listing = [
        {"id": name, "object": "model", "created": service.started_at, "owned_by": "tickertape"}
        for name in service.model_names
    ]
    return Response(orjson.dumps({"object": "list", "data": listing}), media_type="application/json")


async def not_yet(request: Request) -> Response:
    """Protocols that are refused until they are supported."""
    path = request.url.path
    path = path[path.index("/v1/") :]
    refusal = InvalidRequest(f"{_LATER[path]} not supported yet: use /v1/chat/completions", code="unsupported_endpoint")
    shape = openai_error(refusal)
    if path.startswith("/v1/messages"):  # Anthropic's own error shape
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": refusal.message}}
        return Response(orjson.dumps(error), status_code=refusal.status, media_type="application/json")
    return Response(orjson.dumps(shape), status_code=refusal.status, media_type="application/json")


for _path in _CHAT_PATHS:
    # A plain route: FastAPI's reading of parameters would cost a tenth of a turn, and the dialect reads them itself.
    router.add_route(_path, chat_completions, methods=["POST"])
for _path in _MODELS_PATHS:
    router.add_api_route(_path, models, methods=["GET"])
for _path in _LATER:
    router.add_api_route(_path, not_yet, methods=["POST"])
    router.add_api_route("/sessions/{session_id}" + _path, not_yet, methods=["POST"])


def _headers(session_id: str | None, ignored: Iterable[str]) -> dict[str, str]:
    headers = {} if session_id is None else {SESSION_HEADER: session_id}
    if named := ", ".join(quote(name, safe="[]._-") for name in ignored):
        headers[_IGNORED_HEADER] = named[:2000]
    return headers


async def _disconnected(request: Request) -> None:
    """Returns when the client has closed the connection."""
    await request.receive()  # the body has been read: the one message left is http.disconnect
