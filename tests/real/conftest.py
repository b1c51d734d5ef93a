"""Real engines as fixtures. One runs at a time where that is possible: each takes 3 GB and both cores."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.engines import LAYOUTS, Kind, RealServer, installed, started
from tests.real.models import tiny_model

StartServer = Callable[..., RealServer]


def pytest_configure() -> None:
    """A run that is told to end (by ``timeout``, by CI) ends its servers too, as it does on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def need(kind: Kind) -> None:
    """Skips what needs an engine that is not installed. In CI it is."""
    try:
        installed(kind)
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def _default_server(kind: Kind, directory: Path) -> Iterator[RealServer]:
    need(kind)
    with started(kind, tiny_model(), directory / f"{kind}.log") as server:
        yield server


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A vLLM server of the tiny model in float32."""
    yield from _default_server("vllm", tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="module")
def sglang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """An SGLang server of the tiny model in float32."""
    yield from _default_server("sglang", tmp_path_factory.mktemp("sglang"))


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Either engine; the first is ended before the second is started."""
    yield from _default_server(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def session() -> str:
    """A session id that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts further servers: ``start_server("sglang", tiny_model(1), options=("--enable-lora",))``."""
    with ExitStack() as stack:
        count = iter(range(100))

        def start(
            kind: Kind,
            model: Path | None = None,
            *,
            options: Sequence[str] = (),
            dtype: str = "float32",
            environment: Mapping[str, str] | None = None,
        ) -> RealServer:
            need(kind)
            log = tmp_path / f"{kind}-{next(count)}.log"
            return stack.enter_context(
                started(kind, model or tiny_model(), log, options=options, dtype=dtype, environment=environment)
            )

        yield start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which tests ran on which engine."""
    ran = {
        kind: [
            report
            for outcome in ("passed", "failed", "error", "skipped")
            for report in terminalreporter.stats.get(outcome, ())
            if kind in report.nodeid
        ]
        for kind in LAYOUTS
    }
    for kind, reports in ran.items():
        if reports:
            terminalreporter.section(f"on real {kind}")
            for report in reports:
                terminalreporter.line(f"{report.outcome:8}{report.nodeid}")
