"""DURABLE, over HTTP with a tape that fails for real: refused before sampling, told when sampled, never lost."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, qwen3_tokenizer, scripted, until
from tests.server.failing_stores import Failure, full, gone, locked
from tests.server.invariants import check_once, check_prefix

pytestmark = pytest.mark.slow


HELLO = [{"role": "user", "content": "Hello"}]
FAILURES = pytest.mark.parametrize("failure", [locked, full, gone])
PATIENCE = 0.5


@pytest.fixture
def calling() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the tape alone, so that it can go."""
    (tmp_path / "tape").mkdir()
    return tmp_path / "tape"


def engine(delay: float = 0.0) -> ScriptedEngine:
    return ScriptedEngine(
        lambda _ids, _sampling: qwen3_tokenizer().encode_like_model("Hi there<|im_end|>"), delay=delay
    )


def is_ready(proxy: Proxy) -> bool:
    return proxy.http.get("/ready").status_code == 200


def fail_visibly(proxy: Proxy) -> None:
    """Lets a write fail, so that the failure is known."""
    proxy.http.post("/sessions", json={})
    until(lambda: not is_ready(proxy))


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "tape_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


@FAILURES
def test_failing_tape_refuses_calls_at_once_and_before_anything_is_sampled(
    folder: Path, session: str, failure: Failure
) -> None:
    fake = engine()
    with scripted(fake, folder, store_patience=PATIENCE) as proxy:
        assert proxy.chat(session, HELLO).status_code == 200
        with failure(folder / "tape.db"):
            fail_visibly(proxy)
            sampled = len(fake.calls)
            calls: list[tuple[str, dict[str, Any]]] = [
                ("/v1/chat/completions", {"messages": HELLO}),
                ("/v1/chat/completions", {"messages": HELLO, "stream": True}),
                ("/v1/chat/completions", {"messages": HELLO, "n": 2}),
                ("/v1/chat/completions", {"messages": "unreadable"}),
                ("/v1/completions", {"prompt": "Hello"}),
                ("/v1/responses", {"input": "Hello"}),
            ]
            for path, body in calls:
                for prefix in ("", f"/sessions/{session}"):
                    started = time.monotonic()
                    answer = proxy.http.post(prefix + path, json={"model": proxy.model, **body})
                    assert time.monotonic() - started < 0.1
                    assert_unavailable(answer)
            body = {"model": proxy.model, "messages": HELLO, "max_tokens": 9}
            said = proxy.http.post("/v1/messages", json=body, headers={"anthropic-version": "2023-06-01"})
            assert (said.status_code, said.json()["type"]) == (503, "error")
            assert_unavailable(proxy.http.post("/sessions", json={}))
            ready = proxy.http.get("/ready")
            assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
            assert "tape" in ready.json()["reason"]
            assert proxy.http.get("/health").status_code == 200
            assert len(fake.calls) == sampled
        freed = time.monotonic()
        until(lambda: is_ready(proxy))
        assert time.monotonic() - freed < 1.5
        assert proxy.chat(session, [*HELLO, {"role": "user", "content": "Again"}]).status_code == 200


@FAILURES
@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"stream": True}], ids=["whole", "n", "streamed"])
def test_turn_that_was_sampled_while_the_tape_failed_is_committed_later_as_undelivered(
    folder: Path, session: str, calling: ThreadPoolExecutor, failure: Failure, fields: dict[str, Any]
) -> None:
    fake = engine(delay=0.1)
    with scripted(fake, folder, store_patience=PATIENCE) as proxy:
        first = proxy.chat(session, HELLO)
        answer = first.json()["choices"][0]["message"]
        said = [*HELLO, {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": "And?"}]
        asked = calling.submit(proxy.chat, session, said, **fields)
        until(lambda: len(fake.calls) == 1 + fields.get("n", 1))
        with failure(folder / "tape.db"):
            _assert_told(asked, streamed="stream" in fields)
        until(lambda: is_ready(proxy))
        before, *late = proxy.tape.turns(session)
        assert len(late) == fields.get("n", 1)
        for turn in late:
            assert turn.outcome == "undelivered"
            assert turn.completion.tolist() == fake.calls[-1].token_ids
            assert turn.parent_id == before.id
            assert "503" in (turn.error or "")
        assert [turn.seq for turn in (before, *late)] == list(range(1 + len(late)))
        again = proxy.chat(session, said)
        assert again.status_code == 200
        assert again.headers.get("X-Tickertape-Replayed") is None, "what nobody heard is not given again"
        turns = proxy.tape.turns(session)
        assert turns[-1].parent_id == before.id
        check_prefix(turns)
        check_once(proxy.tape, session)


def _assert_told(asked: "Future[httpx.Response]", *, streamed: bool) -> None:
    answer = asked.result(timeout=15)
    if not streamed:
        assert_unavailable(answer)
        return
    events = [line for line in answer.text.splitlines() if line.startswith("data:")]
    assert "tape_unavailable" in events[-1] or "tape_unavailable" in events[-2]
    assert not any('"finish_reason":"stop"' in event for event in events)


@FAILURES
def test_short_failure_is_waited_for_and_nobody_hears_of_it(
    folder: Path, session: str, calling: ThreadPoolExecutor, failure: Failure
) -> None:
    fake = engine(delay=0.1)
    with scripted(fake, folder, store_patience=10) as proxy:
        proxy.chat(session, [{"role": "user", "content": "first"}])
        asked = [calling.submit(proxy.chat, f"{session}-{n}", HELLO, stream=n % 2 == 0) for n in range(4)]
        until(lambda: len(fake.calls) == 5)
        with failure(folder / "tape.db"):
            time.sleep(1.0)
            assert not any(each.done() for each in asked), "no answer before the commit"
        for n, each in enumerate(asked):
            assert each.result(timeout=5).status_code == 200
            (turn,) = proxy.tape.turns(f"{session}-{n}")
            assert turn.outcome == "stop"


def test_corrupt_tape_is_refused_and_said(folder: Path, session: str) -> None:
    with scripted(engine(), folder, store_patience=PATIENCE) as proxy:
        assert proxy.chat(session, HELLO).status_code == 200
        with closing(sqlite3.connect(folder / "tape.db")) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        tape = folder / "tape.db"
        size = tape.stat().st_size
        with tape.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))

        answer = proxy.chat(f"{session}-2", HELLO)
        assert_unavailable(answer)
        until(lambda: not is_ready(proxy))
        assert "malformed" in proxy.http.get("/ready").json()["reason"]


def test_tape_that_was_replaced_is_not_written(folder: Path, session: str) -> None:
    tape = folder / "tape.db"
    with scripted(engine(), folder, store_patience=PATIENCE) as proxy:
        assert proxy.chat(session, HELLO).status_code == 200
        tape.rename(folder / "old.db")
        tape.write_bytes(b"")
        assert_unavailable(proxy.chat(session, HELLO))
        assert "replaced" in proxy.http.get("/ready").json()["reason"]
        assert tape.read_bytes() == b""
        tape.unlink()
        (folder / "old.db").rename(tape)
        until(lambda: is_ready(proxy))


@pytest.mark.slow
def test_tapes_that_fail_lose_no_sampled_token(folder: Path, session: str, calling: ThreadPoolExecutor) -> None:
    """Calls of many sessions, while the tape is locked and free in turns: what was acknowledged and what was not is all
    there."""
    fake = engine(delay=0.02)
    told: list[tuple[str, int]] = []
    with scripted(fake, folder, store_patience=0.1) as proxy:

        def call(number: int) -> None:
            name = f"{session}-{number % 8}"
            answer = proxy.chat(name, [{"role": "user", "content": f"task {number}"}])
            told.append((name, answer.status_code))

        asked = [calling.submit(call, number) for number in range(120)]
        for _ in range(3):
            time.sleep(0.2)
            with locked(folder / "tape.db"):
                time.sleep(2.5)
            until(lambda: is_ready(proxy))
        for each in asked:
            each.result(timeout=60)
        until(lambda: is_ready(proxy))
        turns = [turn for number in range(8) for turn in proxy.tape.turns(f"{session}-{number}")]
        assert {status for _, status in told} <= {200, 503}
        assert sum(turn.outcome == "stop" for turn in turns) == sum(status == 200 for _, status in told)
        assert sum(len(turn.completion) for turn in turns) == sum(len(call.token_ids) for call in fake.calls)
        assert sum(turn.outcome == "undelivered" for turn in turns) > 0
