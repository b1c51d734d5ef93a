"""Traces lead from the agent's span to the engine's, and hold nothing that was said."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import StatusCode

from tests.engines import ScriptedEngine, faulty_vllm, streaming, vllm_event
from tests.server.all_kinds import SECRET, call_all_kinds, playing
from tests.server.conftest import Proxy, StartProxy, scripted, until
from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.clients.engines.vllm.engine import VllmEngine
from tickertape.server.observing import tracing

HELLO = [{"role": "user", "content": f"Hello {SECRET}"}]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
ABOVE = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "tracestate": "vendor=1"}


@dataclass
class Spans:
    """What was traced."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def below(self, name: str) -> dict[str, ReadableSpan]:
        """The spans of the one trace whose topmost has this name, by name; the topmost one comes last."""
        until(lambda: any(span.name == name for span in self.exporter.get_finished_spans()))
        spans = self.exporter.get_finished_spans()
        (top,) = [span for span in spans if span.name == name]
        return {span.name: span for span in spans if span.context.trace_id == top.context.trace_id}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Has the SDK's own exporter in memory stand for a collector."""
    kept = Spans()

    def in_memory(_endpoint: str | None) -> tracing.Tracing:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(kept.exporter))
        return tracing.Tracing(provider)

    monkeypatch.setattr(tracing, "to_otlp", in_memory)
    return kept


def call(proxy: Proxy, session: str, **fields: Any) -> str:
    body = {"model": proxy.model, "messages": HELLO, "temperature": 0.5, "max_tokens": 40, **fields}
    answer = proxy.http.post(f"/sessions/{session}/v1/chat/completions", json=body, headers=ABOVE)
    return str(answer.headers.get("X-Turn-Id", ""))


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_a_span_with_its_parts_below(
    start_proxy: StartProxy, spans: Spans, session: str, stream: bool
) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>"), delay=0.01, version="7"), otlp_endpoint="http://any")
    turn_id = call(proxy, session, stream=stream)
    found = spans.below("POST /v1/chat/completions")
    top = found.pop("POST /v1/chat/completions")
    assert set(found) == {"prepare", f"chat {proxy.model}", "commit"}
    assert top.parent is not None
    assert (f"{top.parent.trace_id:032x}", f"{top.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert top.context.trace_state.get("vendor") == "1"
    for span in found.values():
        assert span.parent is not None
        assert span.parent.span_id == top.context.span_id
        assert attributes(span)["tickertape.turn.id"] == turn_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
    told = attributes(top)
    assert (told["http.response.status_code"], told["tickertape.session.id"]) == (200, session)
    assert told["tickertape.turn.outcome"] == "stop"


def test_the_engines_span_follows_the_conventions(start_proxy: StartProxy, spans: Spans, session: str) -> None:
    engine = ScriptedEngine(playing("Hi<|im_end|>"), version="7")
    proxy = start_proxy(engine, otlp_endpoint="http://any")
    turn_id = call(proxy, session)
    told = attributes(spans.below("POST /v1/chat/completions")[f"chat {proxy.model}"])
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": proxy.model,
        "gen_ai.response.model": "scripted",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 40,
        "gen_ai.response.id": turn_id,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": len(engine.calls[0].prompt_ids),
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.conversation.id": session,
        "tickertape.policy.version": "7",
    }
    assert {name: told.get(name) for name in expected} == expected
    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    assert {name for name in told if name.startswith("gen_ai.")} <= known


def test_the_trace_is_passed_on_to_the_engine(tmp_path: Path, spans: Spans, session: str) -> None:
    heard: list[dict[str, str]] = []
    answer = streaming([vllm_event([151645], [-0.5], "stop"), "[DONE]"])

    async def listening(request: web.Request) -> web.StreamResponse:
        heard.append(dict(request.headers))
        return await answer(request)

    with (
        faulty_vllm(listening) as url,
        scripted(VllmEngine(url), tmp_path, otlp_endpoint="http://any") as proxy,
    ):
        call(proxy, session)
        call(proxy, f"{session}-two", n=2)
        until(lambda: len(spans.exporter.get_finished_spans()) >= 11)
    engines = [span for span in spans.exporter.get_finished_spans() if span.name.startswith("chat ")]
    assert len(engines) == 3
    passed = {f"00-{TRACE_ID}-{span.context.span_id:016x}-01" for span in engines}
    assert {headers["traceparent"] for headers in heard} == passed
    assert {headers["tracestate"] for headers in heard} == {"vendor=1"}


def test_no_header_goes_to_the_engine_without_traces(tmp_path: Path, session: str) -> None:
    heard: list[dict[str, str]] = []
    answer = streaming([vllm_event([151645], [-0.5], "stop"), "[DONE]"])

    async def listening(request: web.Request) -> web.StreamResponse:
        heard.append(dict(request.headers))
        return await answer(request)

    with faulty_vllm(listening) as url, scripted(VllmEngine(url), tmp_path) as proxy:
        call(proxy, session)
    assert "traceparent" not in heard[0]


def test_engine_that_fails_is_an_error(start_proxy: StartProxy, spans: Spans, session: str) -> None:
    error = EngineUnavailable(f"it burns at {SECRET}")
    proxy = start_proxy(ScriptedEngine(playing("Hi", error)), otlp_endpoint="http://any")
    call(proxy, session)
    found = spans.below("POST /v1/chat/completions")
    assert found["POST /v1/chat/completions"].status.status_code is StatusCode.ERROR
    engine = found[f"chat {proxy.model}"]
    assert engine.status.status_code is StatusCode.ERROR
    assert attributes(engine)["error.type"] == "EngineUnavailable"
    assert attributes(engine)["gen_ai.usage.output_tokens"] == 1


def test_nothing_that_was_said_is_in_a_span(start_proxy: StartProxy, spans: Spans) -> None:
    engine = ScriptedEngine(playing("Hi<|im_end|>"))
    proxy = start_proxy(engine, otlp_endpoint="http://any")
    proxy.http.headers["Authorization"] = f"Bearer sk-{SECRET}"
    call_all_kinds(proxy, engine)
    everything = "".join(span.to_json() for span in spans.exporter.get_finished_spans())
    assert "tickertape.turn.id" in everything
    assert SECRET not in everything


@dataclass
class Collector:
    """An OTLP/HTTP receiver on loopback."""

    url: str
    received: list[ExportTraceServiceRequest]


@pytest.fixture
def collector() -> Iterator[Collector]:
    received: list[ExportTraceServiceRequest] = []

    class Receiving(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Receiving)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Collector(f"http://127.0.0.1:{server.server_port}", received)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("by_environment", [False, True])
def test_spans_arrive_at_a_collector(
    tmp_path: Path, collector: Collector, session: str, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    if by_environment:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    settings = {} if by_environment else {"otlp_endpoint": collector.url}
    with scripted(ScriptedEngine(playing("Hi<|im_end|>")), tmp_path, **settings) as proxy:
        call(proxy, session)
        top = "POST /v1/chat/completions"
        names = {top, "prepare", f"chat {proxy.model}", "commit"}
    resources = [each for request in collector.received for each in request.resource_spans]
    spans = [span for each in resources for scope in each.scope_spans for span in scope.spans]
    of_call = {span.name for span in spans if span.trace_id.hex() == TRACE_ID}
    assert of_call == names  # stopping sends what was not sent
    service = {item.key: item.value.string_value for item in resources[0].resource.attributes}
    assert service["service.name"] == "tickertape"


def test_collector_that_is_away_harms_nobody(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")), otlp_endpoint="http://127.0.0.1:9")
    assert call(proxy, session)


def test_opentelemetry_is_not_imported_unless_it_is_asked_for() -> None:
    code = "import sys; import tickertape.server.serving.running; print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
