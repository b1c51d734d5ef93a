"""docker/Caddyfile: the real proxy before real replicas, and before servers that fail."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tests.deployment.processes import (
    ANSWER,
    Server,
    chat,
    free_port,
    serve_settings,
    tickertape,
    write_keys,
)
from tests.deployment.proxies import caddy
from tests.engines import faulty_vllm, serving_aiohttp

pytestmark = pytest.mark.slow


@dataclass
class Replicas:
    proxy: str
    servers: list[Server]
    headers: dict[str, str]

    def turns(self, session_id: str) -> list[dict[str, object]]:
        """On tape, whichever replica served them."""
        answer = httpx.get(f"{self.proxy}/sessions/{session_id}/turns", headers=self.headers, trust_env=False)
        turns: list[dict[str, object]] = answer.raise_for_status().json()["turns"]
        return turns


@pytest.fixture
def replicas(tmp_path: Path, postgres_url: str) -> Iterator[Replicas]:
    """Two servers over one PostgreSQL database behind the proxy, as compose.yaml puts them."""
    headers = write_keys(tmp_path / "secrets")
    with ExitStack() as stack:
        engine = stack.enter_context(faulty_vllm(ANSWER))
        servers = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            settings = serve_settings(engine, free_port()) | {"TICKERTAPE_DB": postgres_url}
            settings |= {"TICKERTAPE_SECRETS_DIR": str(tmp_path / "secrets")}
            servers.append(stack.enter_context(tickertape(settings, folder)))
        proxy = stack.enter_context(caddy([server.url for server in servers], tmp_path))
        yield Replicas(proxy, servers, headers)


def test_sessions_go_on_when_the_replica_that_served_them_is_killed(replicas: Replicas) -> None:
    messages = {f"s{number}": chat()["messages"] for number in range(8)}

    def turn(client: httpx.Client, session_id: str) -> None:
        body = {"model": "faulty", "messages": messages[session_id]}
        answer = client.post(f"/sessions/{session_id}/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        messages[session_id] += [answer.json()["choices"][0]["message"], {"role": "user", "content": "More."}]

    with httpx.Client(base_url=replicas.proxy, headers=replicas.headers, timeout=30, trust_env=False) as client:
        for session_id in [*messages, *messages]:
            turn(client, session_id)
        replicas.servers[0].process.kill()
        replicas.servers[0].process.wait()
        for session_id in [*messages, *messages]:
            turn(client, session_id)
    for session_id in messages:
        turns = replicas.turns(session_id)
        assert [turn["parent_id"] for turn in turns] == [None, *(turn["id"] for turn in turns[:-1])]
        assert len(turns) == 4


@dataclass
class Counting:
    """A fake replica that counts what it gets and does with calls as it is told."""

    name: str
    calls: int = 0
    pause: float = 0.0
    reset: bool = False

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def call(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        await request.read()
        if self.reset:
            assert request.transport is not None
            request.transport.abort()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Replica": self.name})
        await response.prepare(request)
        for number in range(3):
            await response.write(f"data: {json.dumps(number)}\n\n".encode())
            await asyncio.sleep(self.pause)
        return response

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/health", self.health), web.post("/{path:.*}", self.call)])
        return app


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[tuple[str, list[Counting]]]:
    both = [Counting("one"), Counting("two")]
    with ExitStack() as stack:
        urls = [stack.enter_context(serving_aiohttp(each.app())) for each in both]
        yield stack.enter_context(caddy(urls, tmp_path)), both


def replica_of(url: str, path: str = "/v1/chat/completions", **headers: str) -> str:
    answer = httpx.post(url + path, json={}, headers=headers, timeout=10, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Replica"]


def test_a_session_stays_on_its_replica_however_it_is_named(fakes: tuple[str, list[Counting]]) -> None:
    url, _ = fakes
    by_session = {}
    for number in range(12):
        name = f"session-number-{number}"
        found = {
            replica_of(url, f"/sessions/{name}/v1/chat/completions"),
            replica_of(url, f"/sessions/{name}/v1/messages"),
            replica_of(url, **{"X-Session-Id": name}),
            replica_of(url, Authorization=f"Bearer session-{name}"),
            replica_of(url, "/v1/messages", **{"X-Api-Key": f"tt-session-{name}"}),
            replica_of(url, **{"X-Session-Id": name, "X-Tickertape-Affinity": "mine"}),
        }
        (by_session[name],) = found
    assert set(by_session.values()) == {"one", "two"}


def test_a_stream_comes_as_it_is_written(fakes: tuple[str, list[Counting]]) -> None:
    url, both = fakes
    for replica in both:
        replica.pause = 0.3
    came = []
    began = time.monotonic()
    with httpx.stream(
        "POST", f"{url}/v1/messages", json={}, headers={"Accept-Encoding": "gzip"}, trust_env=False
    ) as answer:
        for line in answer.iter_lines():
            if line:
                came.append(time.monotonic() - began)
    assert len(came) == 3
    assert came[0] < 0.25
    assert came[1] - came[0] > 0.2
    assert came[2] - came[1] > 0.2


def test_a_call_that_was_sent_is_not_sent_again(fakes: tuple[str, list[Counting]]) -> None:
    """A replica that dies while it samples: its agent hears of it, and no other replica samples a second time."""
    url, both = fakes
    for replica in both:
        replica.reset = True
    for key in ({}, {"Idempotency-Key": "k"}):
        before = sum(replica.calls for replica in both)
        answer = httpx.post(f"{url}/v1/messages", json={}, headers=key, timeout=20, trust_env=False)
        assert answer.status_code == 502
        assert sum(replica.calls for replica in both) == before + 1


def test_a_call_goes_elsewhere_when_its_replica_cannot_be_connected_to(tmp_path: Path) -> None:
    there = Counting("there")
    with serving_aiohttp(there.app()) as url, caddy([url, f"http://127.0.0.1:{free_port()}"], tmp_path) as proxy:
        assert {replica_of(proxy, f"/sessions/{number}/v1/messages") for number in range(6)} == {"there"}
