"""A running proxy, over real HTTP, for any engine."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.engines import ScriptedEngine
from tests.materials import qwen3_dir
from tickertape.clients import TrajectoryClient, TrajectoryError
from tickertape.clients.engines.engine import Engine
from tickertape.renderers.choose import Choice, get_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.serving.assembly import Parts
from tickertape.server.serving.running import serving
from tickertape.server.settings import Settings


@cache
def qwen3_tokenizer() -> Tokenizer:
    return Tokenizer.load(qwen3_dir())


@dataclass
class Proxy:
    """A proxy that is running, and clients of it."""

    url: str
    http: httpx.Client
    tape: TrajectoryClient
    model: str

    def openai(self, session_id: str) -> openai.OpenAI:
        """An agent's client, its calls in the session."""
        return openai.OpenAI(base_url=self.tape.agent_base_url(session_id), api_key="none", max_retries=0)

    def chat(self, session_id: str | None, messages: list[dict[str, Any]], **fields: Any) -> httpx.Response:
        """A bare chat completion call."""
        prefix = "" if session_id is None else f"/sessions/{session_id}"
        body = {"model": self.model, "messages": messages, **fields}
        return self.http.post(f"{prefix}/v1/chat/completions", json=body)


@contextmanager
def running(
    engines: Engine | Mapping[str, Engine], choice: Choice, settings: Settings, api_key: str | None = None
) -> Iterator[Proxy]:
    """
    Args:
        engines, choice, settings: of the proxy.
        api_key: that its clients here show.
    """
    shown = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    named = {"engine": engines} if isinstance(engines, Engine) else engines
    with ExitStack() as stack:
        url = stack.enter_context(serving(settings, parts=Parts(named, choice)))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=60, headers=shown))
        tape = stack.enter_context(TrajectoryClient(url, api_key=api_key))
        # FastAPI builds its routes at the first request that reaches it, which two threads must not do at once.
        http.get("/health")
        yield Proxy(url, http, tape, _first_model(http))


def _first_model(http: httpx.Client, seconds: float = 120) -> str:
    """The model that is served, as soon as an engine has been let in: a real one on a busy machine takes longer than a
    start waits for it."""
    deadline = time.monotonic() + seconds
    while (answer := http.get("/v1/models")).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    model: str = answer.json()["data"][0]["id"]
    return model


@contextmanager
def scripted(
    engine: Engine | Mapping[str, Engine],
    directory: Path,
    renderer: str = "qwen3",
    *,
    api_key: str | None = None,
    **settings: Any,
) -> Iterator[Proxy]:
    """A proxy for a model with Qwen3's vocabulary."""
    given = Settings(**{"port": 0, "db": directory / "tape.db", **settings})
    options = {"history": given.history}
    choice = Choice(get_renderer(renderer, qwen3_tokenizer(), **options), "the test asked for it", options)
    with running(engine, choice, given, api_key) as proxy:
        yield proxy


StartProxy = Callable[..., Proxy]


@pytest.fixture
def start_proxy(tmp_path: Path) -> Iterator[StartProxy]:
    """Starts proxies for an engine: ``start_proxy(engine, renderer="qwen3", **settings)``."""
    with ExitStack() as stack:

        def start(engine: Engine | Mapping[str, Engine], renderer: str = "qwen3", **settings: Any) -> Proxy:
            return stack.enter_context(scripted(engine, tmp_path, renderer, **settings))

        yield start


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, ScriptedEngine]]:
    """A proxy for a file's tests that differ in what is sampled: they set its engine's ``script``."""
    engine = ScriptedEngine(lambda _ids, _sampling: [])
    with scripted(engine, tmp_path_factory.mktemp("tape")) as proxy:
        yield proxy, engine


@pytest.fixture
def session() -> str:
    """A session id that no other test uses."""
    return uuid.uuid4().hex


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits for something that happens beside a call. A session that is not on tape yet is no error."""
    deadline = time.monotonic() + seconds
    while not _holds(condition):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except TrajectoryError as error:
        if error.code != "session_not_found":
            raise
        return False
