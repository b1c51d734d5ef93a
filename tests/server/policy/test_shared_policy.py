"""One policy for all servers of a tape: an order to one of them is done when all have done it, and it outlives
restarts."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, scripted, until
from tests.server.policy.test_policy import admin, goes_on

pytestmark = pytest.mark.slow


HELLO = [{"role": "user", "content": "Hello"}]


def versions(proxy: Proxy, session: str) -> list[str | None]:
    return [version for turn in proxy.tape.turns(session) for version, _ in turn.versions]


def test_a_pause_of_one_server_pauses_all_and_no_token_has_the_wrong_version(
    postgres_url: str, start_proxy: StartProxy
) -> None:
    engine = ScriptedEngine(goes_on(" ".join(map(str, range(40))) + "<|im_end|>"), delay=0.03)
    here, there = (start_proxy(engine, db=postgres_url) for _ in range(2))
    admin(here, "", version="v1")
    assert there.http.get("/admin/policy").json()["version"] == "v1"
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(there.chat, f"r{k}", HELLO) for k in range(2)]
        until(lambda: sum(not call.closed for call in engine.calls) >= 2)
        admin(here, "/pause", mode="abort")
        n_calls = len(engine.calls)
        late = threads.submit(there.chat, "late", HELLO)
        assert there.http.get("/admin/policy").json()["paused"] == "abort"
        threading.Event().wait(0.3)
        assert len(engine.calls) == n_calls, "nobody samples while the weights are changed"
        admin(there, "/resume", version="v2")
        assert {answer.result().status_code for answer in (*running, late)} == {200}
    assert here.http.get("/admin/policy").json() == there.http.get("/admin/policy").json() | {"waiting": 0}
    assert versions(here, "late") == ["v2"]
    for session in ("r0", "r1"):
        assert versions(here, session) in (["v1", "v2"], ["v2"])
    assert any(versions(here, session) == ["v1", "v2"] for session in ("r0", "r1"))


def test_a_server_that_cannot_drain_in_time_is_told_of(postgres_url: str, start_proxy: StartProxy) -> None:
    engine = ScriptedEngine(goes_on("one two three four five six seven eight nine ten<|im_end|>"), delay=0.5)
    here, there = (start_proxy(engine, db=postgres_url) for _ in range(2))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(there.chat, "slow", HELLO)
        until(lambda: bool(engine.calls))
        refused = here.http.post("/admin/policy/pause", json={"mode": "drain", "timeout": 0.3})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "still_running")
        assert "the server" in refused.json()["error"]["message"]
        assert here.http.post("/admin/policy/pause", json={"mode": "drain", "timeout": 20}).status_code == 200
        assert running.result().status_code == 200
    admin(there, "/resume")


def test_a_newer_order_breaks_off_a_pause_that_is_waited_for(postgres_url: str, start_proxy: StartProxy) -> None:
    engine = ScriptedEngine(goes_on("one two three four five six seven eight nine ten<|im_end|>"), delay=0.4)
    here, there = (start_proxy(engine, db=postgres_url) for _ in range(2))
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(there.chat, "slow", HELLO)
        until(lambda: bool(engine.calls))
        pausing = threads.submit(here.http.post, "/admin/policy/pause", json={"mode": "drain", "timeout": 30})
        until(lambda: there.http.get("/admin/policy").json()["paused"] == "drain")
        admin(here, "/resume", version="v2")
        assert there.http.get("/admin/policy").json()["paused"] is None
        assert running.result().status_code == 200
        pausing.result()


def test_version_and_pause_outlive_a_restart(tmp_path: Path) -> None:
    engine = ScriptedEngine(goes_on("one two<|im_end|>"))
    with scripted(engine, tmp_path) as proxy:
        admin(proxy, "", version="step-7")
        proxy.chat("before", HELLO)
    with scripted(engine, tmp_path) as proxy:
        proxy.chat("after", HELLO)
        assert versions(proxy, "before") == versions(proxy, "after") == ["step-7"]
        admin(proxy, "/pause", mode="abort")
    with scripted(engine, tmp_path) as proxy:
        assert proxy.http.get("/admin/policy").json()["paused"] == "abort"
        admin(proxy, "/resume", version="step-8")
        proxy.chat("resumed", HELLO)
        assert versions(proxy, "resumed") == ["step-8"]


def test_servers_that_are_no_more_are_not_waited_for(
    start_proxy: StartProxy, tmp_path: Path, postgres_url: str
) -> None:
    engine = ScriptedEngine(goes_on("one two<|im_end|>"))
    with scripted(engine, tmp_path, db=postgres_url):
        pass
    proxy = start_proxy(engine, db=postgres_url)
    admin(proxy, "/pause", mode="abort")
    admin(proxy, "/resume", version="v3")
