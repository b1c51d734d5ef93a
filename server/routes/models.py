"""The models that are served, as each protocol tells them."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import Service, service_of
from tickertape.server.dialects.gemini.answers import write_model
from tickertape.server.dialects.gemini.dialect import is_spoken
from tickertape.server.routes import shapes
from tickertape.server.routes.described import described

router = APIRouter(tags=["agents"])


@allow(Access.AGENT)
@described(shapes.AnyModels, (500, 503), error=shapes.AnyError)
async def models(request: Request) -> Response:
    """The models that are served: in OpenAI's shape, to Google's clients in theirs."""
    service = service_of(request)
    told = [_told(request, name, service) for name in service.model_names]
    return _json({"models": told} if is_spoken(request.url.path, request.headers) else {"object": "list", "data": told})


@allow(Access.AGENT)
@described(shapes.AnyModel, (404, 500, 503), error=shapes.AnyError)
async def model(request: Request) -> Response:
    """One of them. A name may hold slashes."""
    service, name = service_of(request), request.path_params["model"]
    service.check_model(name)
    return _json(_told(request, name, service))


def _told(request: Request, name: str, service: Service) -> dict[str, Any]:
    if is_spoken(request.url.path, request.headers):
        return write_model(name, service.info.max_context)
    return {"id": name, "object": "model", "created": service.started_at, "owned_by": "tickertape"}


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


#: As ``agents.ENDPOINTS``.
ENDPOINTS = frozenset({models, model})

for _base in ("", "/sessions/{session_id}"):
    for _version in ("v1", "v1beta"):
        router.add_route(f"{_base}/{_version}/models", models, methods=["GET"])
        router.add_route(f"{_base}/{_version}/models/{{model:path}}", model, methods=["GET"])
