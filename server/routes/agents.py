"""What agents call."""

import orjson
from fastapi import APIRouter, Request, Response

from tickertape.server.dialects import chat, completions
from tickertape.server.errors import InvalidRequest, openai_error
from tickertape.server.routes.calls import answer_call
from tickertape.server.service import service_of

router = APIRouter(tags=["agents"])

_CHAT_PATHS = ("/v1/chat/completions", "/sessions/{session_id}/v1/chat/completions")
_COMPLETIONS_PATHS = ("/v1/completions", "/sessions/{session_id}/v1/completions")
_MODELS_PATHS = ("/v1/models", "/sessions/{session_id}/v1/models")
_LATER = {
    "/v1/responses": "the Responses protocol is",
    "/v1/messages": "Anthropic's Messages protocol is",
    "/v1/messages/count_tokens": "Anthropic's Messages protocol is",
}


async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions."""
    return await answer_call(chat, request)


async def plain_completions(request: Request) -> Response:
    """OpenAI's plain completions."""
    return await answer_call(completions, request)


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
for _path in _COMPLETIONS_PATHS:
    router.add_route(_path, plain_completions, methods=["POST"])
for _path in _MODELS_PATHS:
    router.add_api_route(_path, models, methods=["GET"])
for _path in _LATER:
    router.add_api_route(_path, not_yet, methods=["POST"])
    router.add_api_route("/sessions/{session_id}" + _path, not_yet, methods=["POST"])
