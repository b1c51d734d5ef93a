"""The routes that orchestrators ask."""

import orjson
from fastapi import APIRouter, Request, Response

from tickertape.clients.engines.errors import EngineError
from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.routes import shapes
from tickertape.server.routes.described import described

router = APIRouter(tags=["operators"])


@router.get("/health")
@allow(Access.OPEN)
@described(shapes.Status)
async def health() -> Response:
    """This process is alive."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/ready")
@allow(Access.OPEN)
@described(shapes.Status, (500, 503), special={503: shapes.NotReady})
async def ready(request: Request) -> Response:
    """Turns can be taken: the tape can be written and the engine answers."""
    if service_of(request).is_stopping:
        return Response(b'{"status":"stopping"}', status_code=503, media_type="application/json")
    turns = service_of(request).turns
    reason = turns.store.standing.reason
    try:
        await turns.pool.check()
    except EngineError as error:
        reason = reason or str(error)
    if reason is not None:
        body = orjson.dumps({"status": "not_ready", "reason": reason})
        return Response(body, status_code=503, media_type="application/json")
    return Response(b'{"status":"ready"}', media_type="application/json")
