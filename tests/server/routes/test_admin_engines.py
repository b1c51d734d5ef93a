"""Engines, as operators see and change them."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import httpx
import pytest
from aiohttp import web

from tests.clients.flaky_engine import FAST, FlakyEngine, ask, until
from tests.engines import faulty_vllm
from tickertape.clients.engines.engine import EngineInfo, Feature, LogprobKind
from tickertape.clients.engines.pool import EnginePool, MemberState
from tickertape.server.auth.access import ANYBODY
from tickertape.server.auth.browsers import Browsers
from tickertape.server.calls.service import Service
from tickertape.server.http.body_limit import Bodies
from tickertape.server.observing.metrics import Metrics
from tickertape.server.serving.app import create_app

INFO = EngineInfo(
    name="vllm",
    url="http://one",
    model="faulty",
    max_context=2048,
    version="0.32",
    endpoint="/v1/completions",
    logprobs=LogprobKind.PROCESSED,
    adapters=("style",),
    features=frozenset({Feature.PAUSE, Feature.CACHED_TOKENS}),
)


class Admin:
    """The admin routes over a pool of one fake engine, without what takes turns."""

    def __init__(self) -> None:
        self.engine = FlakyEngine(info=INFO)
        self.pool = EnginePool({"one": self.engine}, limit=4, **FAST)
        turns = SimpleNamespace(pool=self.pool, metrics=Metrics())
        open_to_all = SimpleNamespace(identify=AsyncMock(return_value=ANYBODY))
        around = {
            "keyring": open_to_all,
            "tracing": None,
            "bodies": Bodies(10_000),
            "connect_timeout": 5.0,
            "browsers": Browsers(),
        }
        service = cast("Service", SimpleNamespace(turns=turns, **around))
        transport = httpx.ASGITransport(create_app(service))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def list(self) -> list[dict[str, Any]]:
        answer = await self.http.get("/admin/engines")
        assert answer.status_code == 200
        engines: list[dict[str, Any]] = answer.json()["engines"]
        return engines


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    made = Admin()
    await made.pool.start()
    async with made.http:
        yield made
    await made.pool.close()


def error(answer: httpx.Response) -> tuple[int, str | None, str | None, str]:
    told = answer.json()["error"]
    return answer.status_code, told["code"], told["param"], told["message"]


async def no_tokens(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def test_an_engine_is_shown_with_all_that_is_known_of_it(admin: Admin) -> None:
    await ask(admin.pool)
    assert await admin.list() == [
        {
            "name": "one",
            "kind": "vllm",
            "url": "http://one",
            "state": "ready",
            "reason": None,
            "model": "faulty",
            "software_version": "0.32",
            "endpoint": "/v1/completions",
            "features": ["cached_tokens", "pause"],
            "missing": {},
            "logprobs": "processed",
            "adapters": ["style"],
            "max_context": 2048,
            "policy_version": None,
            "running": 0,
            "running_tokens": 0,
            "limit": 4,
            "last_error": None,
            "served": 1,
            "failed": 0,
        }
    ]


async def test_a_failing_engine_says_why(admin: Admin) -> None:
    admin.engine.up = False
    await until(lambda: admin.pool.members["one"].state is MemberState.DOWN)
    (shown,) = await admin.list()
    assert (shown["state"], shown["reason"], shown["last_error"]) == ("down", "nobody listens", "nobody listens")


async def test_an_engine_is_added_and_removed(admin: Admin) -> None:
    with faulty_vllm(no_tokens) as url:
        added = await admin.http.post("/admin/engines", json={"name": "two", "engine": f"vllm={url}", "limit": 2})
        assert added.status_code == 201, added.text
        shown = added.json()
        assert (shown["name"], shown["kind"], shown["url"], shown["state"]) == ("two", "vllm", url, "ready")
        assert (shown["max_context"], shown["limit"]) == (4096, 2)
        assert [engine["name"] for engine in await admin.list()] == ["one", "two"]
        assert (await admin.http.delete("/admin/engines/two?drain=1")).status_code == 204
        assert [engine["name"] for engine in await admin.list()] == ["one"]


async def test_removing_waits_for_what_runs(admin: Admin) -> None:
    admin.engine.gate = asyncio.Event()
    running = asyncio.create_task(ask(admin.pool))
    await until(lambda: admin.engine.running == 1)
    removing = asyncio.create_task(admin.http.delete("/admin/engines/one"))
    await until(lambda: admin.pool.members["one"].state is MemberState.DRAINING)
    assert (await admin.list())[0]["state"] == "draining"
    assert error(await admin.http.delete("/admin/engines/one"))[:3] == (409, "conflict", "name")
    admin.engine.gate.set()
    assert (await removing).status_code == 204
    assert await running == ["one"]
    assert await admin.list() == []


async def test_what_is_no_engine_for_this_pool_is_refused(admin: Admin) -> None:
    async def add(**fields: Any) -> tuple[int, str | None, str | None, str]:
        return error(await admin.http.post("/admin/engines", json={"name": "two", **fields}))

    assert (await add(engine="tgi=http://x"))[:3] == (400, "invalid_value", "engine")
    assert "vllm=http://HOST:PORT" in (await add(engine="vllm=x"))[3]
    assert (await add())[:3] == (400, "invalid_value", "engine")
    assert (await add(engine="vllm=http://x", key="k"))[:3] == (400, "invalid_value", "key")
    assert (await add(engine="vllm=http://x", limit=0))[:3] == (400, "invalid_value", "limit")
    assert (await add(engine="vllm=http://x", name="a/b"))[:3] == (400, "invalid_value", "name")
    assert (await add(engine="vllm=http://x", name="one"))[:3] == (409, "conflict", "name")
    with faulty_vllm(no_tokens, max_model_len=1024) as url:
        status, code, _, message = await add(engine=f"vllm={url}")
        assert (status, code) == (409, "conflict")
        assert "1024 tokens of context, 2048 are promised" in message
    assert (await add(engine=f"vllm={url}"))[:2] == (502, "engine_unavailable")
    assert [engine["name"] for engine in await admin.list()] == ["one"]


async def test_removing_names_what_is_wrong(admin: Admin) -> None:
    assert error(await admin.http.delete("/admin/engines/two")) == (
        404,
        "not_found",
        "name",
        "there is no engine 'two'; there are: one",
    )
    assert error(await admin.http.delete("/admin/engines/one?drain=soon"))[:3] == (400, "invalid_value", "drain")
    assert error(await admin.http.delete("/admin/engines/one?drian=1"))[0] == 400
    assert (await admin.list())[0]["state"] == "ready"


async def test_weights_are_confirmed(admin: Admin) -> None:
    async def confirm(name: str, **body: Any) -> httpx.Response:
        return await admin.http.post(f"/admin/engines/{name}/confirm", json=body)

    admin.engine.up = False
    await until(lambda: admin.pool.members["one"].state is MemberState.DOWN)
    admin.pool.expect("5")
    assert error(await confirm("one", version="5"))[:2] == (409, "conflict")
    admin.engine.up = True
    await until(lambda: admin.pool.members["one"].state is MemberState.STALE)
    assert (await admin.http.get("/admin/engines")).json()["expected_version"] == "5"
    assert error(await confirm("two", version="5"))[:3] == (404, "not_found", "name")
    assert error(await confirm("one", version=""))[:3] == (400, "invalid_value", "version")
    confirmed = await confirm("one", version="5")
    assert (confirmed.status_code, confirmed.json()["state"], confirmed.json()["policy_version"]) == (200, "ready", "5")
