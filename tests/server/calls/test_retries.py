"""A request that comes again is never sampled twice: it joins the first one, or gets its answer; and what is not a
retry is not taken for one."""

import concurrent.futures
from typing import Any

import httpx
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, until
from tests.server.invariants import check_once, check_prefix
from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.server.calls.in_flight import InFlightCalls

HELLO = [{"role": "user", "content": "Hello"}]
END = 151645
REPLAYED = "X-Tickertape-Replayed"
RETRY = {"x-stainless-retry-count": "1"}


def counting_engine(**options: Any) -> ScriptedEngine:
    """Says something else each time."""
    engine = ScriptedEngine(lambda _ids, _sampling: [1000 + len(engine.calls), 2000, 3000, END], **options)
    return engine


def post(proxy: Proxy, session: str | None, body: dict[str, Any], **headers: str) -> httpx.Response:
    path = "/v1/chat/completions" if session is None else f"/sessions/{session}/v1/chat/completions"
    return proxy.http.post(path, json={"model": proxy.model, "messages": HELLO} | body, headers=headers)


def test_a_retry_of_what_is_done_gets_the_same_bytes_marked(start_proxy: StartProxy, session: str) -> None:
    engine = counting_engine()
    proxy = start_proxy(engine)
    first, second = post(proxy, session, {}), post(proxy, session, {})
    assert (second.content, second.headers["X-Turn-Id"]) == (first.content, first.headers["X-Turn-Id"])
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    assert len(engine.calls) == 1
    sampled, replayed = proxy.tape.turns(session)
    assert (replayed.outcome, replayed.parent_id, len(replayed.prompt_delta)) == ("replayed", sampled.id, 0)
    check_prefix([sampled, replayed])
    check_once(proxy.tape, session)
    (sample,) = proxy.tape.samples(session)
    assert sample.turn_ids == [sampled.id]


@pytest.mark.parametrize("change", [{"temperature": 0.5}, {"seed": 1}, {"user": "me"}])
def test_another_body_is_sampled(start_proxy: StartProxy, session: str, change: dict[str, Any]) -> None:
    engine = counting_engine()
    proxy = start_proxy(engine)
    first, second = post(proxy, session, {}), post(proxy, session, change)
    assert first.json()["choices"] != second.json()["choices"]
    assert [turn.fork_reason for turn in proxy.tape.turns(session)] == [None, "resampled"]


def test_a_header_asks_for_another_sample(start_proxy: StartProxy, session: str) -> None:
    engine = counting_engine()
    proxy = start_proxy(engine)
    post(proxy, session, {})
    second = post(proxy, session, {}, **{"X-Tickertape-Resample": "1"})
    assert REPLAYED not in second.headers
    assert len(engine.calls) == 2
    third = post(proxy, session, {})
    assert third.content == second.content, "a retry gets the answer of the try before it"
    outcomes = [(turn.outcome, turn.fork_reason) for turn in proxy.tape.turns(session)]
    assert outcomes == [("stop", None), ("stop", "resampled"), ("replayed", None)]


def test_another_session_is_another_call(start_proxy: StartProxy, session: str) -> None:
    engine = counting_engine()
    proxy = start_proxy(engine)
    assert post(proxy, session, {}).content != post(proxy, f"{session}-b", {}).content
    assert len(engine.calls) == 2


def test_after_an_error_the_retry_is_a_new_try(start_proxy: StartProxy, session: str) -> None:
    scripts: list[list[Any]] = [[100, EngineUnavailable("gone")], [100, END]]
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: scripts.pop(0)))
    assert [post(proxy, session, {}).status_code for _ in range(3)] == [502, 200, 200]
    turns = proxy.tape.turns(session)
    assert [turn.outcome for turn in turns] == ["engine_error", "stop", "replayed"]
    assert [turn.fork_reason for turn in turns] == [None, "resampled", None]


def test_a_retry_joins_what_is_running_and_outlives_the_first_client(start_proxy: StartProxy, session: str) -> None:
    engine = counting_engine(delay=0.15)
    proxy = start_proxy(engine)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        impatient = threads.submit(_give_up_after, 0.25, proxy, session)
        until(lambda: len(engine.calls) == 1)
        joined = threads.submit(post, proxy, session, {})
        assert impatient.result(), "the first client went away before the answer was there"
        answer = joined.result()
    assert (answer.status_code, answer.headers[REPLAYED]) == (200, "true")
    assert len(engine.calls) == 1
    assert not engine.calls[0].closed
    assert [turn.outcome for turn in proxy.tape.turns(session)] == ["stop", "replayed"]


def test_when_all_clients_have_gone_the_generation_is_broken_off(start_proxy: StartProxy, session: str) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [*range(100, 400), END], delay=0.02)
    proxy = start_proxy(engine)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        assert all(threads.map(lambda seconds: _give_up_after(seconds, proxy, session), (0.3, 0.6)))
    until(lambda: engine.calls[0].closed)
    assert len(engine.calls) == 1
    until(lambda: [turn.outcome for turn in proxy.tape.turns(session)] == ["undelivered"])
    assert post(proxy, session, {"max_tokens": 1}).status_code == 200


def _give_up_after(seconds: float, proxy: Proxy, session: str) -> bool:
    body = {"model": proxy.model, "messages": HELLO}
    try:
        httpx.post(f"{proxy.url}/sessions/{session}/v1/chat/completions", json=body, timeout=seconds)
    except httpx.TimeoutException:
        return True
    return False


def test_without_a_session_only_a_counted_retry_is_one(start_proxy: StartProxy) -> None:
    engine = counting_engine()
    proxy = start_proxy(engine)
    first, alike = post(proxy, None, {}), post(proxy, None, {})
    assert first.headers["X-Session-Id"] != alike.headers["X-Session-Id"]
    assert len(engine.calls) == 2
    retry = post(proxy, None, {}, **RETRY)
    assert (retry.content, retry.headers["X-Session-Id"]) == (alike.content, alike.headers["X-Session-Id"])
    other = post(proxy, None, {}, Authorization="Bearer another", **RETRY)
    assert REPLAYED not in other.headers, "another client's answer is not given away"


def test_choices_are_replayed_together(start_proxy: StartProxy, session: str) -> None:
    engine = counting_engine()
    proxy = start_proxy(engine)
    first, second = post(proxy, session, {"n": 3}), post(proxy, session, {"n": 3})
    assert first.content == second.content
    assert len(engine.calls) == 3


def test_nothing_is_replayed_with_a_window_of_nothing(start_proxy: StartProxy, session: str) -> None:
    engine = counting_engine()
    proxy = start_proxy(engine, replay_window=0)
    assert post(proxy, session, {}).content != post(proxy, session, {}).content


# The memory of requests without a session by itself.


def test_a_request_without_a_session_is_remembered_within_the_window_and_until_it_is_deleted() -> None:
    calls = InFlightCalls(window=60)
    calls.remember_session(("client", b"1"), "s1")
    calls.remember_session(("client", b"2"), "s2")
    assert [calls.session_of(("client", digest)) for digest in (b"1", b"2", b"3")] == ["s1", "s2", None]
    assert calls.session_of(("another", b"1")) is None
    calls.forget({"s1"})
    assert [calls.session_of(("client", digest)) for digest in (b"1", b"2")] == [None, "s2"]
    never = InFlightCalls(window=0)
    never.remember_session(("client", b"1"), "s1")
    assert never.session_of(("client", b"1")) is None
