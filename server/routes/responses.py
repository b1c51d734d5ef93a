"""OpenAI's Responses: answers are made, and given again by their id from the tape."""

import time
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from tickertape.server.auth.access import Access, allow
from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.calls.calls import answer_call, answer_count
from tickertape.server.calls.identity import caller_of
from tickertape.server.calls.service import service_of
from tickertape.server.dialects.responses import request as responses
from tickertape.server.dialects.responses.answers import ENCRYPTED, LOGPROBS, turn_id_of, write_result
from tickertape.server.dialects.responses.listing import input_items
from tickertape.server.dialects.responses.schema import ResponsesRequest
from tickertape.server.errors import InvalidRequest, NotFound
from tickertape.server.routes import shapes
from tickertape.server.routes.described import TAPE, described, described_call
from tickertape.server.store.answers import hide
from tickertape.server.turns.replay import Recalled, read_again, recall

router = APIRouter(tags=["agents"])

_PREFIXES = ("/v1/responses", "/sessions/{session_id}/v1/responses")


@allow(Access.AGENT)
@described_call(shapes.ResponseObject, ResponsesRequest)
async def create(request: Request) -> Response:
    """OpenAI's Responses."""
    return await answer_call(responses, request)


@allow(Access.AGENT)
@described(shapes.CountedInput, (400, 404, 500), body=ResponsesRequest, headers=(SESSION_HEADER,))
async def count_input(request: Request) -> Response:
    """Counts the tokens of a prompt of OpenAI's Responses."""
    return await answer_count(responses, request)


@allow(Access.AGENT)
@described(status=None, errors=(400, 500))
async def compact(_request: Request) -> Response:
    """Refused: who shortens a conversation has the model sum it up, in a turn that is on tape."""
    raise InvalidRequest(
        "conversations are not compacted here: ask the model to sum up, and go on from what it says",
        code="unsupported_value",
    )


@allow(Access.AGENT)
@described(shapes.ResponseObject, (400, 404, *TAPE), headers=(SESSION_HEADER,))
async def retrieve(
    request: Request,
    response: str,
    include: Annotated[list[str] | None, Query()] = None,
    include_in_brackets: Annotated[list[str] | None, Query(alias="include[]")] = None,
    stream: bool = False,
) -> Response:
    """An answer, read again from the tokens on tape."""
    if stream:
        raise InvalidRequest("an answer that is there already is not streamed", param="stream")
    recalled = await _recalled(request, response)
    turns = service_of(request).turns
    asked = [*recalled.turn.request_fields.get("include", ()), *(include or ()), *(include_in_brackets or ())]
    instructions = recalled.standing[0].text if recalled.standing else None
    # Alternatives to the sampled tokens are not on tape, nor what is not asked for any more.
    wanted = [name for name in asked if name in (ENCRYPTED, LOGPROBS)]
    result = read_again(recalled, turns.renderers)
    return _json(write_result(result, instructions, wanted, turns.renderers.tokenizer))


@allow(Access.AGENT)
@described(shapes.DeletedResponse, (400, 404, *TAPE), headers=(SESSION_HEADER,))
async def delete(request: Request, response: str) -> Response:
    """An answer is not given again. Its turn stays on tape, for those who train on it."""
    recalled = await _recalled(request, response)
    await service_of(request).turns.store.write(hide, recalled.turn, time.time())
    return _json({"id": response, "object": "response", "deleted": True})


@allow(Access.AGENT)
@described(status=None, errors=(400, 404, *TAPE), headers=(SESSION_HEADER,))
async def cancel(request: Request, response: str) -> Response:
    """Refused: only background responses can be cancelled, and there are none. A client cancels by going away."""
    if not service_of(request).turns.sessions.is_running(turn_id_of(response)):
        await _recalled(request, response)
    raise InvalidRequest(
        f"{response!r:.200} is no background response, and cannot be cancelled: close its connection instead"
    )


@allow(Access.AGENT)
@described(shapes.InputItems, (400, 404, *TAPE), headers=(SESSION_HEADER,))
async def list_input(
    request: Request,
    response: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """The conversation that was answered, instructions left out, in pages."""
    recalled = await _recalled(request, response)
    turn = recalled.turn
    items = input_items(recalled.before, turn.id, turn.request_fields.get("tool_forms", {}))
    if order == "desc":
        items.reverse()
    if after is not None:
        place = next((k for k, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise InvalidRequest(f"after: there is no item {after!r:.200}", param="after", code="invalid_value")
        items = items[place + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": "", "last_id": ""}
    return _json({"object": "list", "data": page, **ends, "has_more": len(items) > limit})


async def _recalled(request: Request, response: str) -> Recalled:
    store = service_of(request).turns.store
    recalled = await recall(store, turn_id_of(response), caller_of(request).may_read, responses.DIALECT)
    if recalled is None:
        raise NotFound(f"Response with id {response!r:.200} not found.", param="response_id")
    return recalled


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


#: As ``agents.ENDPOINTS``.
ENDPOINTS = frozenset({create, count_input, compact})

for _prefix in _PREFIXES:
    # A plain route, as for chat completions.
    router.add_route(_prefix, create, methods=["POST"])
    router.add_route(_prefix + "/input_tokens", count_input, methods=["POST"])
    router.add_route(_prefix + "/compact", compact, methods=["POST"])
    router.add_api_route(_prefix + "/{response}", retrieve, methods=["GET"])
    router.add_api_route(_prefix + "/{response}", delete, methods=["DELETE"])
    router.add_api_route(_prefix + "/{response}/cancel", cancel, methods=["POST"])
    router.add_api_route(_prefix + "/{response}/input_items", list_input, methods=["GET"])
