"""Google's Gemini API, whose methods stand after a colon in the path."""

from fastapi import APIRouter, Request, Response

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.calls import answer_call, answer_count
from tickertape.server.dialects.gemini.dialect import Gemini
from tickertape.server.dialects.gemini.schema import GenerateRequest
from tickertape.server.errors import InvalidRequest, NotFound
from tickertape.server.routes import shapes
from tickertape.server.routes.described import described_call

router = APIRouter(tags=["agents"])


@allow(Access.AGENT)
@described_call(shapes.GeminiAnswerOrCount, GenerateRequest, shapes.AnyError)
async def call_model(request: Request) -> Response:
    """Gemini's ``generateContent``, ``streamGenerateContent?alt=sse`` and ``countTokens``."""
    model, _, method = request.path_params["target"].rpartition(":")
    if method == "countTokens":
        return await answer_count(Gemini(model), request)
    if method == "streamGenerateContent" and request.query_params.get("alt") != "sse":
        raise InvalidRequest("streams are server-sent events here: send ?alt=sse", param="alt")
    if method not in ("generateContent", "streamGenerateContent"):
        raise NotFound(
            f"{method!r:.100} is no method of models here: there are generateContent, streamGenerateContent and"
            " countTokens"
        )
    return await answer_call(Gemini(model, streams=method == "streamGenerateContent"), request)


#: As ``agents.ENDPOINTS``.
ENDPOINTS = frozenset({call_model})

for _base in ("", "/sessions/{session_id}"):
    for _version in ("v1beta", "v1"):
        router.add_route(f"{_base}/{_version}/models/{{target:path}}", call_model, methods=["POST"])
