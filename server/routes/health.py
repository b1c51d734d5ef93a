"""What orchestrators ask."""

import orjson
from fastapi import APIRouter, Request, Response

from tickertape.clients.engines.errors import EngineError
from tickertape.server.auth.access import Access, allow
from tickertape.server.service import service_of

router = APIRouter(tags=["operators"])


@router.get("/health")
@allow(Access.OPEN)
async def health() -> Response:
    """This process is alive."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/ready")
@allow(Access.OPEN)
async def ready(request: Request) -> Response:
    """Turns can be taken: the engine answers."""
    try:
        await service_of(request).turns.pool.check()
    except EngineError as error:
        body = orjson.dumps({"status": "not_ready", "reason": str(error)})
        return Response(body, status_code=503, media_type="application/json")
    return Response(b'{"status":"ready"}', media_type="application/json")
