"""A server is there before its engines: it says so, refuses calls, and serves when they come."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deployment.processes import free_port
from tests.engines import faulty_vllm
from tests.server.conftest import qwen3_tokenizer, until
from tests.server.faults import healthy
from tickertape.clients import TrajectoryClient
from tickertape.clients.engines.embedded.engine import EmbeddedEngine
from tickertape.clients.engines.engine import EngineInfo
from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.clients.engines.vllm.engine import VllmEngine
from tickertape.renderers.choose import Choice, get_renderer
from tickertape.server.serving.assembly import Parts
from tickertape.server.serving.running import serving
from tickertape.server.settings import Settings

HELLO = [{"role": "user", "content": "Hello"}]


@contextmanager
def without_engine(directory: Path, *ports: int, **settings: Any) -> Iterator[httpx.Client]:
    """A proxy over vLLM servers at these ports, at which nobody listens."""
    engines = {f"vllm-{number}": VllmEngine(f"http://127.0.0.1:{port}") for number, port in enumerate(ports)}
    choice = Choice(get_renderer("qwen3", qwen3_tokenizer()), "the test asked for it", {})
    given = Settings(port=0, db=directory / "tape.db", **settings)
    with serving(given, parts=Parts(engines, choice)) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield http


@pytest.mark.parametrize("names", [(), ("*",)], ids=["its own name", "any name"])
def test_it_serves_when_its_engine_comes(tmp_path: Path, names: tuple[str, ...]) -> None:
    port = free_port()
    asked = {"model": "faulty", "max_tokens": 8, "messages": HELLO}
    with ExitStack() as stack:
        http = stack.enter_context(without_engine(tmp_path, port, served_model_names=names))
        tape = stack.enter_context(TrajectoryClient(str(http.base_url)))
        assert http.get("/health").status_code == 200
        ready = http.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
        assert f"127.0.0.1:{port} cannot be reached" in ready.json()["reason"]
        (engine,) = http.get("/admin/engines").json()["engines"]
        assert (engine["state"], engine["model"]) == ("down", None)
        assert 'tickertape_build_info{model=""' in http.get("/metrics").text

        refused = http.post("/sessions/s/v1/chat/completions", json=asked)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        error = refused.json()["error"]
        assert error["code"] == "engine_unavailable"
        assert "no engine has answered yet: vllm-0 is down" in error["message"]
        for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/tokenize"):
            body = {"input": "Hello", "model": "faulty"} if path == "/v1/responses" else asked
            body = {"prompt": "Hello"} if path == "/tokenize" else body
            answer = http.post(path, json=body)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.text
        assert http.post("/v1/messages", json=asked).json()["type"] == "error", "in the protocol's own shape"
        assert http.get("/v1/models").status_code == 503
        (turn,) = tape.turns("s")
        assert (turn.outcome, turn.error) == ("rejected", error["message"])

        stack.enter_context(faulty_vllm(healthy, port=port))
        until(lambda: http.get("/ready").status_code == 200)
        assert http.get("/v1/models").json()["data"][0]["id"] == "faulty"
        assert http.post("/sessions/s/v1/chat/completions", json=asked).status_code == 200
        assert [turn.outcome for turn in tape.turns("s")] == ["rejected", "stop"]


def test_an_engine_of_this_process_must_start(tmp_path: Path) -> None:
    class BrokenEngine(EmbeddedEngine):
        def __init__(self) -> None:
            """There is no model."""

        async def start(self) -> EngineInfo:
            raise EngineUnavailable("the model file cannot be read")

        async def close(self) -> None:
            return

    choice = Choice(get_renderer("qwen3", qwen3_tokenizer()), "the test asked for it", {})
    parts = Parts({"embedded": BrokenEngine()}, choice)
    with (
        pytest.raises(EngineUnavailable, match=r"embedded is down \(the model file cannot be read\)"),
        serving(Settings(port=0, db=tmp_path / "tape.db"), parts=parts),
    ):
        pass


def test_the_first_of_several_is_enough_and_the_others_join_with_whatever_context(tmp_path: Path) -> None:
    """What is promised does not depend on the order in which they come."""
    first, second = free_port(), free_port()
    with ExitStack() as stack:
        http = stack.enter_context(without_engine(tmp_path, first, second))

        def states() -> list[str]:
            return [engine["state"] for engine in http.get("/admin/engines").json()["engines"]]

        def promised() -> int:
            return int(http.post("/tokenize", json={"prompt": "Hello"}).json()["max_model_len"])

        stack.enter_context(faulty_vllm(healthy, port=second, max_model_len=4096))
        until(lambda: states() == ["down", "ready"])
        assert promised() == 4096
        stack.enter_context(faulty_vllm(healthy, port=first, max_model_len=2048))
        until(lambda: states() == ["ready", "ready"])
        assert promised() == 2048
