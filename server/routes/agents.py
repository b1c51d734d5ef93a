"""What agents call."""

from collections.abc import Iterable
from functools import partial
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Request, Response

from tickertape.server.dialects import chat
from tickertape.server.errors import InvalidRequest, ProxyError, openai_error
from tickertape.server.routes.identity import SESSION_HEADER, new_session_id, session_of
from tickertape.server.service import service_of
from tickertape.server.turns import ClientGone

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
_CLIENT_CLOSED = 499  # nginx's code for a client that went away; nobody reads it


async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions."""
    service = service_of(request)
    session_id: str | None = None
    body = b""
    try:
        session_id = session_of(request)
        body = await request.body()
        wanted = chat.read_request(body)
        service.check_model(wanted.model)
        service.check_ignored(wanted.ignored)
    except ProxyError as error:
        if session_id is not None:
            await service.turns.record_rejected(session_id, chat.DIALECT, chat.model_of(body), error)
        return error_response(error, session_id)
    is_new, session_id = session_id is None, session_id or new_session_id()
    try:
        result = await service.turns.take(
            session_id, wanted, chat.write_message, is_new=is_new, client_gone=partial(_disconnected, request)
        )
    except ProxyError as error:
        return error_response(error, session_id, wanted.ignored)
    except ClientGone:
        return Response(status_code=_CLIENT_CLOSED)
    token_bytes = service.turns.renderers.tokenizer.token_bytes
    answer = chat.write_response(result, token_bytes, wants_logprobs=wanted.wants_logprobs)
    headers = _headers(session_id, wanted.ignored)
    headers["X-Turn-Id"] = result.turn.id
    return Response(orjson.dumps(answer), media_type="application/json", headers=headers)


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


def error_response(error: ProxyError, session_id: str | None = None, ignored: Iterable[str] = ()) -> Response:
    """An error in OpenAI's shape."""
    return Response(
        orjson.dumps(openai_error(error)),
        status_code=error.status,
        media_type="application/json",
        headers=_headers(session_id, ignored),
    )


def _headers(session_id: str | None, ignored: Iterable[str]) -> dict[str, str]:
    headers = {} if session_id is None else {SESSION_HEADER: session_id}
    if named := ", ".join(quote(name, safe="[]._-") for name in ignored):
        headers[_IGNORED_HEADER] = named[:2000]
    return headers


async def _disconnected(request: Request) -> None:
    """Returns when the client has closed the connection."""
    await request.receive()  # the body has been read: the one message left is http.disconnect
