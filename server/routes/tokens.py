"""Text, or messages, to token ids and back, in vLLM's shape (``vllm/entrypoints/serve/tokenize/protocol.py``)."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field

from tickertape.renderers.messages import as_messages
from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import Service, service_of
from tickertape.server.dialects.chat.schema import ChatMessage, ChatTool
from tickertape.server.dialects.reading import Fields, extras, read_fields, read_object
from tickertape.server.errors import InvalidRequest
from tickertape.server.routes import shapes
from tickertape.server.routes.described import described
from tickertape.server.turns.off_loop import off_loop
from tickertape.server.turns.raw_prompt import check_ids

router = APIRouter(tags=["agents"])


class TokenizeRequest(Fields):
    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = Field(None, min_length=1)
    tools: list[ChatTool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Fields):
    model: str | None = None
    tokens: list[int]


@allow(Access.AGENT)
@described(shapes.Tokenized, (400, 404, 500), body=TokenizeRequest)
async def tokenize(request: Request) -> Response:
    """The ids of a text as the model reads it, or of the prompt that messages are rendered to."""
    service = service_of(request)
    body = await request.body()
    service.check_size(body)
    return await off_loop(len(body), _tokenize, service, body)


def _tokenize(service: Service, body: bytes) -> Response:
    given = read_object(body)
    asked = read_fields(TokenizeRequest, given)
    _check(service, asked.model, asked)
    if (asked.prompt is None) == (asked.messages is None):
        raise InvalidRequest("either prompt or messages", param="prompt")
    if asked.add_special_tokens:
        raise InvalidRequest("no token is added to a text: send false", param="add_special_tokens")
    if asked.messages is not None and asked.add_generation_prompt is False:
        raise InvalidRequest("messages are rendered up to where the assistant begins", param="add_generation_prompt")
    tokenizer = service.turns.renderers.tokenizer
    try:
        ids = tokenizer.encode_like_model(asked.prompt) if asked.prompt is not None else _rendered(service, given)
    except ValueError as error:
        raise InvalidRequest(str(error), param="messages", code="cannot_render") from error
    words = [tokenizer.token_bytes(i).decode(errors="replace") for i in ids] if asked.return_token_strs else None
    answer = {"count": len(ids), "max_model_len": service.info.max_context, "tokens": ids, "token_strs": words}
    return _json(answer)


@allow(Access.AGENT)
@described(shapes.Detokenized, (400, 404, 500), body=DetokenizeRequest)
async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    service = service_of(request)
    body = await request.body()
    service.check_size(body)
    return await off_loop(len(body), _detokenize, service, body)


def _detokenize(service: Service, body: bytes) -> Response:
    asked = read_fields(DetokenizeRequest, read_object(body))
    _check(service, asked.model, asked)
    tokenizer = service.turns.renderers.tokenizer
    check_ids("tokens", asked.tokens, tokenizer.vocab_size)
    text = b"".join(map(tokenizer.token_bytes, asked.tokens)).decode(errors="replace")
    return _json({"prompt": text})


def _rendered(service: Service, given: dict[str, Any]) -> list[int]:
    renderer = service.turns.renderers.get(given.get("chat_template_kwargs") or {})
    messages = as_messages(given["messages"])
    return renderer.build_generation_prompt(messages, given.get("tools") or None).token_ids


def _check(service: Service, model: str | None, asked: Fields) -> None:
    if model is not None:
        service.check_model(model)
    unknown = list(extras(asked))
    if unknown:
        raise InvalidRequest(f"unknown fields: {', '.join(unknown)}", param=unknown[0], code="unknown_field")


def _json(answer: dict[str, Any]) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")


for _name, _route in (("tokenize", tokenize), ("detokenize", detokenize)):
    for _prefix in ("", "/v1", "/sessions/{session_id}/v1"):
        router.add_route(f"{_prefix}/{_name}", _route, methods=["POST"])
