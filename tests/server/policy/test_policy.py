"""Weights that are updated while agents are answered: pauses, what becomes of running generations, version stamps."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.engines import Call, ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer, until
from tests.server.invariants import check_once, check_prefix
from tests.server.reading_along import Heard, read_along
from tickertape.clients import Turn
from tickertape.clients.engines.engine import Feature, PauseMode, Sampling

HELLO = [{"role": "user", "content": "Hello"}]
WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen<|im_end|>"


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def goes_on(text: str) -> Callable[[list[int], Sampling], list[int]]:
    """A script that says ``text`` after any prompt, and the rest of it after a prompt that ends inside."""
    whole = encode(text)

    def script(prompt_ids: list[int], _: Sampling) -> list[int]:
        for said in range(len(whole) - 1, 0, -1):
            if prompt_ids[-said:] == whole[:said]:
                return whole[said:]
        return whole

    return script


class PausableEngine(ScriptedEngine):
    """A fake engine with a pause of its own, as vLLM and SGLang have."""

    features = ScriptedEngine.features | {Feature.PAUSE}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: list[str] = []

    async def pause(self, mode: PauseMode) -> None:
        self.told.append(f"pause {mode}")
        self.hold(mode)

    async def resume(self) -> None:
        self.told.append("resume")
        self.go_on()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as executor:
        yield executor


def admin(proxy: Proxy, path: str, **fields: Any) -> Any:
    answer = proxy.http.post(f"/admin/policy{path}", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def start_streams(
    proxy: Proxy, threads: ThreadPoolExecutor, session: str, count: int, **fields: Any
) -> list["Future[Heard]"]:
    return [threads.submit(read_along, proxy, f"{session}-{k}", HELLO, **fields) for k in range(count)]


def the_turn(proxy: Proxy, session: str) -> Turn:
    turns = proxy.tape.turns(session)
    check_prefix(turns)
    check_once(proxy.tape, session)
    (turn,) = turns
    return turn


def under_way(calls: list[Call], count: int, tokens: int = 3) -> bool:
    return sum(len(call.token_ids) >= tokens for call in calls) >= count


@pytest.mark.parametrize("mode", ["abort", "keep"])
@pytest.mark.parametrize("kind", [ScriptedEngine, PausableEngine])
def test_answers_go_on_over_a_weight_update_as_if_nothing_had_been(
    start_proxy: StartProxy, threads: ThreadPoolExecutor, session: str, mode: str, kind: type[ScriptedEngine]
) -> None:
    proxy = start_proxy(engine := kind(goes_on(WORDS), delay=0.03))
    admin(proxy, "", version="A")
    streams = start_streams(proxy, threads, session, 8)
    whole = threads.submit(proxy.chat, f"{session}-whole", HELLO)
    until(lambda: under_way(engine.calls, 9))
    told = admin(proxy, "/pause", mode=mode, timeout=5)
    assert (told["paused"], told["running"] == 0 or kind is PausableEngine) == (mode, True)
    sampled = sum(len(call.token_ids) for call in engine.calls)
    late = threads.submit(read_along, proxy, f"{session}-late", HELLO)
    until(lambda: proxy.http.get("/admin/policy").json()["waiting"] >= 1)
    assert sum(len(call.token_ids) for call in engine.calls) == sampled
    admin(proxy, "/resume", version="B")
    messages = [stream.result(20).message()["content"] for stream in streams]
    messages.append(whole.result(20).json()["choices"][0]["message"]["content"])
    messages.append(late.result(20).message()["content"])
    assert set(messages) == {WORDS.removesuffix("<|im_end|>")}
    for name in [*(f"{session}-{k}" for k in range(8)), f"{session}-whole"]:
        turn = the_turn(proxy, name)
        assert turn.completion.tolist() == encode(WORDS)
        assert [version for version, _ in turn.versions] == ["A", "B"]
    assert [version for version, _ in the_turn(proxy, f"{session}-late").versions] == ["B"]


def test_drain_waits_for_what_runs_and_holds_what_comes(
    start_proxy: StartProxy, threads: ThreadPoolExecutor, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(goes_on(WORDS), delay=0.03))
    admin(proxy, "", version="A")
    (first,) = start_streams(proxy, threads, session, 1)
    until(lambda: under_way(engine.calls, 1))
    still = proxy.http.post("/admin/policy/pause", json={"mode": "drain", "timeout": 0.05})
    assert (still.status_code, still.json()["error"]["code"]) == (409, "still_running")
    late = threads.submit(read_along, proxy, f"{session}-late", HELLO)
    assert admin(proxy, "/pause", mode="drain", timeout=10)["running"] == 0
    assert first.result(1).done
    assert len(engine.calls) == 1
    admin(proxy, "/resume", version="B")
    assert late.result(10).done
    assert [the_turn(proxy, s).versions[0][0] for s in (f"{session}-0", f"{session}-late")] == ["A", "B"]


def test_rest_of_the_budget_is_asked_for_and_the_seed_moves_on(
    start_proxy: StartProxy, threads: ThreadPoolExecutor, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(goes_on(WORDS), delay=0.03))
    (stream,) = start_streams(proxy, threads, session, 1, max_tokens=12, min_tokens=10, seed=7)
    until(lambda: under_way(engine.calls, 1))
    admin(proxy, "/pause")
    admin(proxy, "/resume")
    assert stream.result(10).finish_reasons() == ["length"]
    first, second = engine.calls
    done = len(first.token_ids)
    assert second.prompt_ids == first.prompt_ids + first.token_ids
    assert second.sampling.max_tokens == 12 - done
    assert second.sampling.min_tokens == max(0, 10 - done)
    assert first.sampling.seed == 7 != second.sampling.seed
    assert the_turn(proxy, f"{session}-0").completion.tolist() == encode(WORDS)[:12]


def test_stop_string_that_lies_across_the_seam_still_stops(
    start_proxy: StartProxy, threads: ThreadPoolExecutor, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(goes_on(WORDS), delay=0.05))
    (stream,) = start_streams(proxy, threads, session, 1, stop=["three four five six seven"])
    until(lambda: under_way(engine.calls, 1, tokens=4))  # "one two three four": the stop string has begun
    admin(proxy, "/pause")
    assert 4 <= len(engine.calls[0].token_ids) < 7
    admin(proxy, "/resume")
    heard = stream.result(10)
    assert (heard.message()["content"], heard.finish_reasons()) == ("one two ", ["stop"])
    turn = the_turn(proxy, f"{session}-0")
    assert turn.completion.tolist() == encode("one two three four five six seven")
    assert turn.stop_reason == "three four five six seven"


@pytest.mark.parametrize("fields", [{"presence_penalty": 0.5}, {"frequency_penalty": 0.5}])
def test_what_cannot_be_gone_on_with_is_waited_for(
    start_proxy: StartProxy, threads: ThreadPoolExecutor, session: str, fields: dict[str, Any]
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(goes_on(WORDS), delay=0.03))
    (stream,) = start_streams(proxy, threads, session, 1, **fields)
    until(lambda: under_way(engine.calls, 1))
    admin(proxy, "/pause", mode="abort")
    assert len(engine.calls) == 1
    assert stream.result(0.5).done


def test_pause_and_resume_repeat_and_wrong_ones_are_refused(start_proxy: StartProxy) -> None:
    proxy = start_proxy(ScriptedEngine(goes_on(WORDS)))
    for _ in range(2):
        admin(proxy, "/pause", mode="drain")
    admin(proxy, "/pause", mode="keep")  # nothing runs: the mode may change
    for _ in range(2):
        assert admin(proxy, "/resume")["paused"] is None
    for path, body in [("/pause", {"mode": "stop"}), ("/pause", {"timeout": 0}), ("", {}), ("/resume", {"v": 1})]:
        assert proxy.http.post(f"/admin/policy{path}", json=body).status_code == 400


def test_discarding_a_session_aborts_what_is_sampled_for_it(
    start_proxy: StartProxy, threads: ThreadPoolExecutor, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(goes_on(WORDS), delay=0.1))
    streams = start_streams(proxy, threads, session, 2)
    until(lambda: under_way(engine.calls, 2))
    proxy.http.post("/sessions", json={"id": f"{session}-0"})
    assert proxy.http.post(f"/sessions/{session}-0/discard").status_code == 200
    heard = streams[0].result(2)
    assert heard.error is not None
    assert heard.error["code"] == "session_closed"
    turns = proxy.tape.turns(f"{session}-0")
    assert [turn.outcome for turn in turns] == ["aborted"]
    assert 0 < len(turns[0].completion) < len(encode(WORDS))
    assert streams[1].result(10).message()["content"] == WORDS.removesuffix("<|im_end|>")


def test_deadline_aborts_and_keeps_what_was_sampled(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(goes_on(WORDS), delay=0.1), turn_timeout=0.45)
    answer = proxy.chat(session, HELLO)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline")
    turn = the_turn(proxy, session)
    assert turn.outcome == "aborted"
    assert 1 <= len(turn.completion) <= 4


def test_client_that_leaves_in_a_pause_leaves_nothing_behind(
    start_proxy: StartProxy, threads: ThreadPoolExecutor, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(goes_on(WORDS), delay=0.05))
    left = threading.Event()

    def leave() -> None:
        body = {"model": proxy.model, "messages": HELLO, "stream": True}
        with proxy.http.stream("POST", f"/sessions/{session}/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()  # closed, it closes the connection
            next(lines)
            left.wait(10)

    leaving = threads.submit(leave)
    until(lambda: under_way(engine.calls, 1))
    admin(proxy, "/pause", mode="abort")
    left.set()
    leaving.result(10)
    until(lambda: bool(proxy.tape.turns(session)))
    assert the_turn(proxy, session).outcome == "undelivered"
    assert proxy.http.get("/admin/policy").json()["waiting"] == 0
    admin(proxy, "/resume")
    assert len(engine.calls) == 1


def test_a_least_version_decides_who_samples_and_an_empty_one_nothing(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(goes_on(WORDS)), engine_patience=0)
    admin(proxy, "/resume", version="2")
    path, body = f"/sessions/{session}/v1/chat/completions", {"model": proxy.model, "messages": HELLO}
    versions = ("2", "", "3")
    answers = [
        proxy.http.post(path, json={**body, "seed": k}, headers={"X-Tickertape-Min-Version": version})
        for k, version in enumerate(versions)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 502]
    assert "weights of version '3' or newer are asked for" in answers[2].text
