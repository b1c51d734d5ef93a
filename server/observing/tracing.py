"""OpenTelemetry traces: a span for an agent's request, and below it prepare, the engine's part, and commit.

The agent's ``traceparent`` is continued, and passed on to the engine. Attributes are those of OpenTelemetry's
semantic conventions for HTTP and for generative AI, and ``tickertape.*`` ids. Nothing that was said is in them: no
messages, no tokens, no stop strings, no error texts, which may quote a request.

This module alone imports OpenTelemetry, and is imported only where traces are wanted.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

from tickertape.clients.engines.http import passed_on
from tickertape.server.observing.request_context import RequestContext
from tickertape.server.trajectories.turn import Outcome, Turn

_propagator = TraceContextTextMapPropagator()
_FAILED = (Outcome.ABORTED, Outcome.ENGINE_ERROR)
#: What of a turn's recorded sampling has a name in the conventions.
_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")


class Tracing:
    """Traces of one server.

    Args:
        provider: where spans go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tickertape", version("tickertape"))

    @contextmanager
    def request(self, call: RequestContext, headers: Headers) -> Iterator["RequestTrace"]:
        """Around an HTTP request."""
        above = _propagator.extract({name: headers[name] for name in _propagator.fields if name in headers})
        span = self._tracer.start_span("HTTP", above, SpanKind.SERVER)
        span.set_attribute("tickertape.request.id", call.request_id)
        call.trace = RequestTrace(self._tracer, span, set_span_in_context(span, above))
        try:
            yield call.trace
        finally:
            span.end()

    def close(self) -> None:
        """Sends what has not been sent; may take seconds."""
        self._provider.shutdown()


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """The span of a request, and what comes below it."""

    tracer: Tracer
    span: Span
    context: Context

    def answered(self, method: str, route: str, status: int) -> None:
        """Notes how it was answered."""
        self.span.update_name(f"{method} {route}" if route else method)
        self.span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= 500:
            self.span.set_status(StatusCode.ERROR)

    @contextmanager
    def engine(self, turn: Turn, model: str) -> Iterator[None]:
        """Around a turn's stay at the engines, the wait for one included."""
        attributes: dict[str, str | int | float]
        operation = "chat" if turn.dialect != "completions" else "text_completion"
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": turn.model,
            "gen_ai.response.model": model,
        }
        attributes |= _ids(turn) | {
            f"gen_ai.request.{k}": v for k in _SAMPLING if (v := turn.sampling.get(k)) is not None
        }
        span = self.tracer.start_span(f"{operation} {turn.model}", self.context, SpanKind.CLIENT, attributes)
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, set_span_in_context(span))
        token = passed_on.set(carrier)
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            passed_on.reset(token)
            _enter_answer(span, turn)
            span.end()

    def add_turn(self, turn: Turn, commit_seconds: float) -> None:
        """A turn is on tape since now."""
        self.span.set_attributes({**_ids(turn), "tickertape.turn.outcome": turn.outcome.value})
        if turn.fork_reason is not None:
            self.span.set_attribute("tickertape.turn.fork_reason", turn.fork_reason.partition(":")[0])
        if turn.outcome in _FAILED:
            self.span.set_status(StatusCode.ERROR)
        if "prepare" in turn.timings:
            self._add("prepare", turn, turn.created_at, turn.created_at + turn.timings["prepare"])
        now = time.time()
        self._add("commit", turn, now - commit_seconds, now)

    def _add(self, name: str, turn: Turn, start: float, end: float) -> None:
        """A span of something that is over; times in seconds since the epoch."""
        span = self.tracer.start_span(name, self.context, attributes=_ids(turn), start_time=int(start * 1e9))
        span.end(int(end * 1e9))


def _ids(turn: Turn) -> dict[str, str]:
    ids = {"gen_ai.conversation.id": turn.session_id, "tickertape.session.id": turn.session_id}
    return ids | {"tickertape.turn.id": turn.id}


def _enter_answer(span: Span, turn: Turn) -> None:
    kind, _, url = turn.engine.rpartition(", ")[2].partition(" ")
    span.set_attributes({"gen_ai.provider.name": kind, "tickertape.engine.url": url, "gen_ai.response.id": turn.id})
    usage = turn.usage
    span.set_attribute("gen_ai.usage.input_tokens", usage["prompt_tokens"])
    span.set_attribute("gen_ai.usage.output_tokens", usage.get("completion_tokens", 0))
    if "cached_tokens" in usage:
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage["cached_tokens"])
    if turn.finish_reason is not None:
        span.set_attribute("gen_ai.response.finish_reasons", [turn.finish_reason])
    if "first_token" in turn.timings:
        span.set_attribute("gen_ai.response.time_to_first_chunk", turn.timings["first_token"])
    for number, (policy_version, _) in enumerate(turn.versions[-1:]):
        if number == 0 and policy_version is not None:
            span.set_attribute("tickertape.policy.version", policy_version)


def to_otlp(endpoint: str | None) -> Tracing:
    """Traces that are sent over OTLP/HTTP.

    Args:
        endpoint: a collector's URL without a path; ``None``: as OpenTelemetry's own variables say.
    """
    named = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "tickertape"}
    provider = TracerProvider(resource=Resource.create({**named, SERVICE_VERSION: version("tickertape")}))
    exporter = OTLPSpanExporter(endpoint and f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)
