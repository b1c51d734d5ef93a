"""The route that Prometheus reads."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.routes.described import TEXT, described

router = APIRouter(tags=["operators"])


@router.get("/metrics")
@allow(Access.TRAINER)
@described(also={"text/plain": TEXT, "application/openmetrics-text": TEXT})
async def metrics(request: Request) -> Response:
    """Counters, histograms and gauges of this server, in Prometheus's text format or in OpenMetrics'."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(service_of(request).registry), headers={"Content-Type": content_type})
