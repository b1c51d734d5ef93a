"""Calls of every protocol that end in every way that a turn can end, for those who watch."""

import uuid
from contextlib import suppress
from typing import Any

import httpx

from tests.engines import Script, ScriptedEngine
from tests.server.conftest import Proxy, qwen3_tokenizer, until
from tickertape.clients import TrajectoryClient
from tickertape.clients.engines.errors import EngineAborted, EngineError, EngineUnavailable
from tickertape.server.trajectories.turn import Outcome

CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>'
UNREADABLE = "<tool_call>\n{oops}\n</tool_call><|im_end|>"
#: What the model says in a call that nothing may leak of.
SECRET = "Xylophone7"
DIALECTS = {
    "chat": ("chat/completions", {"messages": [{"role": "user", "content": f"Hello {SECRET}"}], "max_tokens": 40}),
    "completions": ("completions", {"prompt": f"Hello {SECRET}", "max_tokens": 40}),
    "responses": ("responses", {"input": f"Hello {SECRET}", "max_output_tokens": 40}),
    "messages": ("messages", {"messages": [{"role": "user", "content": f"Hello {SECRET}"}], "max_tokens": 40}),
}


def playing(text: str, *then: EngineError) -> Script:
    """A script that samples a text, and then fails."""
    token_ids = qwen3_tokenizer().encode_like_model(text)
    return lambda _ids, _sampling: [*token_ids, *then]


def call_all_kinds(proxy: Proxy, engine: ScriptedEngine) -> list[str]:
    """Has calls of all kinds made; gives their sessions."""
    return [session for dialect in DIALECTS for session in _call_dialect(proxy, engine, dialect)]


def _call_dialect(proxy: Proxy, engine: ScriptedEngine, dialect: str) -> list[str]:
    path, body = DIALECTS[dialect]
    sessions = []

    def post(session: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        sessions.append(session)
        whole = {"model": proxy.model, **body, **more}
        return proxy.http.post(f"/sessions/{session}/v1/{path}", json=whole, headers=headers)

    for text in (f"Hi {SECRET}<|im_end|>", CALL, UNREADABLE, "many words " * 50):
        engine.script = playing(text)
        for stream in (False, True):
            session = _new()
            assert post(session, stream=stream).status_code == 200
            assert post(session, stream=stream).headers["X-Tickertape-Replayed"] == "true"
        assert post(session, {"X-Tickertape-Resample": "true"}).status_code == 200  # a fork
    for error in (EngineUnavailable("it burns"), EngineAborted("it was told to")):
        engine.script = playing("Hi", error)
        assert post(_new()).status_code == 502
        post(_new(), stream=True)
    assert post(_new(), temperature="hot").status_code == 400
    assert post(_new(), model="made-up-by-a-client").status_code == 404
    engine.script = lambda _ids, sampling: [1] * sampling.max_tokens
    engine.delay = 0.05
    for stream in (False, True):
        sessions.append(_leave(proxy, path, {"model": proxy.model, **body, "stream": stream}))
    engine.delay = 0.0
    return list(dict.fromkeys(sessions))


def _leave(proxy: Proxy, path: str, body: Any) -> str:
    """A client that goes away before it has its answer; gives its session, whose turn is on tape."""
    session = _new()
    with (
        suppress(httpx.ReadTimeout),
        httpx.stream("POST", f"{proxy.url}/sessions/{session}/v1/{path}", json=body, timeout=0.3),
    ):
        pass
    until(lambda: bool(proxy.tape.turns(session)))
    return session


def outcomes_on_tape(tape: TrajectoryClient, sessions: list[str]) -> dict[tuple[str, str], int]:
    """How many turns there are of each protocol and outcome."""
    counts: dict[tuple[str, str], int] = {}
    for session in sessions:
        for turn in tape.turns(session):
            key = (turn.dialect, turn.outcome)
            counts[key] = counts.get(key, 0) + 1
    # What this module is for; whoever adds an outcome makes calls that end so.
    assert {outcome for _, outcome in counts} == {outcome.value for outcome in Outcome}
    return counts


def _new() -> str:
    return uuid.uuid4().hex
