"""What is refused when there is too much: at once, with when to come again, and on the tape."""

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, until
from tickertape.server.calls.recognition import Recognition

HELLO = [{"role": "user", "content": "Hello"}]
END = 151645


class Gate:
    """An engine that samples when it is let."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.engine = ScriptedEngine(self._sample)
        self.engine.delay = 0.005

    def _sample(self, _ids: list[int], _sampling: object) -> Any:
        """Tokens without end until it is let; the scripted engine asks for each when it is due."""
        while not self.open.is_set():
            yield 100
        yield 9707
        yield END


_numbers = itertools.count()


def asking() -> list[dict[str, Any]]:
    """A question that was not asked before: one that was is a retry."""
    return [{"role": "user", "content": f"Question {next(_numbers)}"}]


def call_later(proxy: Proxy, session: str) -> "threading.Thread":
    """A call that is under way."""
    thread = threading.Thread(target=proxy.chat, args=(session, asking()), kwargs={"max_tokens": 4000})
    thread.start()
    return thread


def started(gate: Gate, calls: int) -> Callable[[], bool]:
    return lambda: len(gate.engine.calls) >= calls


def test_call_beyond_the_queue_is_refused_before_its_body_is_read(start_proxy: StartProxy, session: str) -> None:
    gate = Gate()
    proxy = start_proxy(gate.engine, engine_limit=1, queue_limit=1)
    running = [call_later(proxy, session) for _ in range(2)]
    until(lambda: proxy.http.get("/admin/engines").json()["waiting"] == 1)
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        began = time.perf_counter()
        head = f"POST /sessions/{session}/v1/chat/completions HTTP/1.1\r\nHost: [::]\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(65536).decode()
        assert time.perf_counter() - began < 0.1
    assert answer.startswith("HTTP/1.1 429")
    assert "retry-after: " in answer.lower()
    gate.open.set()
    for thread in running:
        thread.join()
    until(lambda: [turn.outcome for turn in proxy.tape.turns(session)].count("rejected") == 1)
    assert sorted(turn.outcome for turn in proxy.tape.turns(session)) == ["rejected", "stop", "stop"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_calls": 2}, "2 calls are under way"),
        ({"session_calls": 2}, "has 2 calls under way"),
        ({"engine_limit": 2, "queue_limit": 0}, "the queue is full"),
    ],
)
def test_each_limit_refuses_in_its_protocols_shape_and_sdks_come_again(
    start_proxy: StartProxy, session: str, settings: dict[str, int], said: str
) -> None:
    gate = Gate()
    proxy = start_proxy(gate.engine, **settings)
    running = [call_later(proxy, session) for _ in range(2)]
    until(started(gate, 2))
    refused = proxy.chat(session, HELLO)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert said in error["message"]
    base = proxy.tape.agent_base_url(session)
    with pytest.raises(openai.RateLimitError):
        openai.OpenAI(base_url=base, api_key="k", max_retries=0).chat.completions.create(
            model=proxy.model, messages=[{"role": "user", "content": "Hello"}]
        )
    agent = anthropic.Anthropic(base_url=base.removesuffix("/v1"), api_key="k", max_retries=0)
    with pytest.raises(anthropic.RateLimitError) as caught:
        agent.messages.create(model=proxy.model, max_tokens=9, messages=[{"role": "user", "content": "Hello"}])
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    threading.Timer(0.3, gate.open.set).start()
    patient = openai.OpenAI(base_url=base, api_key="k", max_retries=5)
    answer = patient.chat.completions.create(model=proxy.model, messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].finish_reason == "stop"
    for thread in running:
        thread.join()


def test_choices_count_each(start_proxy: StartProxy, session: str) -> None:
    gate = Gate()
    proxy = start_proxy(gate.engine, engine_limit=2, queue_limit=1)
    running = call_later(proxy, session)
    until(started(gate, 1))
    assert proxy.chat(session, HELLO, n=3).status_code == 429
    gate.open.set()
    running.join()
    assert proxy.chat(session, HELLO, n=3).status_code == 200
    assert proxy.chat(session, HELLO, n=9).status_code == 200, "a call alone is never too wide"


def test_refused_calls_are_one_turn_for_each_second(start_proxy: StartProxy, session: str) -> None:
    gate = Gate()
    proxy = start_proxy(gate.engine, max_calls=1)
    running = call_later(proxy, "other")
    until(started(gate, 1))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: proxy.chat(session, HELLO).status_code, range(100)))
    assert answers == [429] * 100
    until(lambda: _refused(proxy, session) == 100)
    assert len(proxy.tape.turns(session)) < 10
    gate.open.set()
    running.join()


def _refused(proxy: Proxy, session: str) -> int:
    """Calls that the session's turns stand for."""
    counts = []
    for turn in proxy.tape.turns(session):
        assert turn.outcome == "rejected"
        first, _, rest = (turn.error or "").partition(" ")
        counts.append(int(first) if rest.startswith("calls within") else 1)
    return sum(counts)


def test_one_session_does_not_keep_others_waiting(start_proxy: StartProxy) -> None:
    proxy = start_proxy(ScriptedEngine(lambda *_: [100, 200, END], delay=0.01), engine_limit=1)
    with ThreadPoolExecutor(61) as threads:
        greedy = [threads.submit(proxy.chat, "greedy", asking()) for _ in range(60)]
        until(lambda: proxy.http.get("/admin/engines").json()["waiting"] >= 50)
        began = time.perf_counter()
        assert proxy.chat("modest", HELLO).status_code == 200
        took = time.perf_counter() - began
        assert [call.result().status_code for call in greedy] == [200] * 60
        assert took < (time.perf_counter() - began) / 4


def test_session_with_as_many_turns_as_it_may_have_takes_no_more(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda *_: [9707, END]), max_session_turns=2)
    assert [proxy.chat(session, asking()).status_code for _ in range(3)] == [200, 200, 400]
    refused = proxy.chat(session, asking()).json()["error"]
    assert refused["code"] == "session_turns_exceeded"
    assert proxy.chat("another", asking()).status_code == 200


def test_what_is_remembered_of_like_conversations_is_bounded() -> None:
    recognition = Recognition(most=3)
    for number in range(10):
        recognition.remember(b"client", b"same", f"s{number}")
    assert {recognition.find(b"client", [b"same"]) for _ in range(10)} == {"s7", "s8", "s9"}
    recognition.remember(b"client", b"other", "o")
    assert {recognition.find(b"client", [b"same"]) for _ in range(10)} < {"s7", "s8", "s9"}


def test_queue_timeout_is_a_503_with_retry_after(start_proxy: StartProxy, session: str) -> None:
    gate = Gate()
    proxy = start_proxy(gate.engine, engine_limit=1, queue_timeout=0.2)
    running = call_later(proxy, "other")
    until(started(gate, 1))
    refused = proxy.chat(session, HELLO)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_timeout")
    assert int(refused.headers["Retry-After"]) >= 1
    (turn,) = proxy.tape.turns(session)
    assert turn.outcome == "rejected"
    gate.open.set()
    running.join()


def test_places_are_given_back_whatever_becomes_of_a_call(start_proxy: StartProxy, session: str) -> None:
    """Were one kept, the last call here would be refused."""
    gate = Gate()
    proxy = start_proxy(gate.engine, max_calls=1)
    proxy.http.post(f"/sessions/{session}/v1/chat/completions", content=b"{")
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{proxy.url}/v1/chat/completions", json={"model": proxy.model, "messages": HELLO}, timeout=0.2)
    with httpx.Client(base_url=proxy.url) as agent:
        body = {"model": proxy.model, "messages": HELLO, "stream": True}
        until(lambda: bool(gate.engine.calls) and gate.engine.calls[-1].closed)

        def begins() -> bool:
            with agent.stream("POST", "/v1/chat/completions", json=body) as stream:
                if stream.status_code == 429:  # its turn is being put on tape
                    return False
                next(stream.iter_lines())
                return stream.status_code == 200

        until(begins)
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: [::]\r\nContent-Length: 9\r\n\r\n{")
    gate.open.set()
    until(lambda: proxy.chat(session, HELLO).status_code == 200)
    body = json.dumps({"model": proxy.model, "messages": HELLO}).encode()
    assert httpx.post(f"{proxy.url}/v1/chat/completions", content=body).status_code == 200
