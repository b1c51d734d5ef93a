"""The routes that agents call."""

import orjson
from fastapi import APIRouter, Request, Response

from tickertape.server.auth.access import Access, allow
from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.calls.calls import answer_call, answer_count
from tickertape.server.dialects import completions
from tickertape.server.dialects.chat import request as chat
from tickertape.server.dialects.chat.schema import ChatRequest
from tickertape.server.dialects.completions import CompletionRequest
from tickertape.server.dialects.messages import request as messages
from tickertape.server.dialects.messages.schema import CountRequest, MessagesRequest
from tickertape.server.observing.access import request_id_of
from tickertape.server.routes import shapes
from tickertape.server.routes.described import described, described_call

router = APIRouter(tags=["agents"])

_CHAT_PATHS = ("/v1/chat/completions", "/sessions/{session_id}/v1/chat/completions")
_COMPLETIONS_PATHS = ("/v1/completions", "/sessions/{session_id}/v1/completions")
_MESSAGES_PATHS = ("/v1/messages", "/sessions/{session_id}/v1/messages")


@allow(Access.AGENT)
@described_call(shapes.ChatCompletion, ChatRequest)
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions."""
    return await answer_call(chat, request)


@allow(Access.AGENT)
@described_call(shapes.Completion, CompletionRequest)
async def plain_completions(request: Request) -> Response:
    """OpenAI's plain completions."""
    return await answer_call(completions, request)


@allow(Access.AGENT)
@described_call(shapes.AnthropicAnswer, MessagesRequest, shapes.AnthropicError)
async def anthropic_messages(request: Request) -> Response:
    """Anthropic's Messages."""
    return _with_request_id(request, await answer_call(messages, request))


@allow(Access.AGENT)
@described(
    shapes.CountedTokens, (400, 404, 500), body=CountRequest, headers=(SESSION_HEADER,), error=shapes.AnthropicError
)
async def count_tokens(request: Request) -> Response:
    """Counts the tokens of a prompt of Anthropic's Messages."""
    return _with_request_id(request, await answer_count(messages, request))


def _with_request_id(request: Request, answer: Response) -> Response:
    """Anthropic's clients name calls by this header when they complain."""
    answer.headers["request-id"] = request_id_of(request)
    return answer


@allow(Access.OPEN)
@described(shapes.Alive)
async def alive(_request: Request) -> Response:
    """Agents look whether anybody is there before they begin."""
    return Response(orjson.dumps({"name": "tickertape"}), media_type="application/json")


#: They read bodies by their dialect and parameters not at all, so FastAPI has nothing to do for them.
ENDPOINTS = frozenset({chat_completions, plain_completions, anthropic_messages, count_tokens})

for _path in _CHAT_PATHS:
    router.add_route(_path, chat_completions, methods=["POST"])
for _path in _COMPLETIONS_PATHS:
    router.add_route(_path, plain_completions, methods=["POST"])
for _path in _MESSAGES_PATHS:
    router.add_route(_path, anthropic_messages, methods=["POST"])
    router.add_route(_path + "/count_tokens", count_tokens, methods=["POST"])
router.add_route("/", alive, methods=["GET"])
router.add_route("/sessions/{session_id}", alive, methods=["HEAD"])  # a base URL that names a session
