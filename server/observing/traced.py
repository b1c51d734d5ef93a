"""The switch of traces; OpenTelemetry itself is imported only if so."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from tickertape.clients.extras import missing, needs
from tickertape.server.observing.request_context import current_call
from tickertape.server.settings import SettingsError
from tickertape.server.trajectories.turn import Turn

if TYPE_CHECKING:
    from tickertape.server.observing.tracing import Tracing

#: OpenTelemetry's own.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def check_tracing(endpoint: str | None) -> None:
    """
    Raises:
        SettingsError: traces are to be sent, and OpenTelemetry is not installed.
    """
    if _is_wanted(endpoint) and missing("otel"):
        raise SettingsError(needs("sending traces (otlp_endpoint)", "otel"))


def _is_wanted(endpoint: str | None) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return bool(endpoint or any(os.environ.get(name) for name in _ENDPOINTS))


@asynccontextmanager
async def tracing_to(endpoint: str | None) -> "AsyncIterator[Tracing | None]":
    """Traces while the block runs, sent to a collector; ``None`` where neither the setting nor the environment names
    one.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    check_tracing(endpoint)
    if not _is_wanted(endpoint):
        yield None
        return
    from tickertape.server.observing.tracing import to_otlp

    tracing = to_otlp(endpoint)
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)


@contextmanager
def engine_span(turn: Turn, model: str) -> Iterator[None]:
    """Around what a turn does at the engines, with the model that they know by this name; nothing if there are no
    traces."""
    call = current_call.get()
    with nullcontext() if call is None or call.trace is None else call.trace.engine(turn, model):
        yield
