"""Log lines can be followed: from the client to the turn, and none of them tells what was said."""

import io
import json
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines import ScriptedEngine, faulty_vllm, streaming, vllm_event
from tests.materials import qwen3_dir
from tests.server.all_kinds import SECRET, call_all_kinds, playing
from tests.server.conftest import Proxy, StartProxy, until
from tickertape.clients.engines.engine import Sampling
from tickertape.server.observing.logs import LogFormat, LogLevel, configure_logging

HELLO = [{"role": "user", "content": f"Hello {SECRET}"}]
KEY = "sk-very-secret"


class Log:
    """What was logged."""

    def __init__(self, log_format: LogFormat = LogFormat.JSON, level: LogLevel = LogLevel.INFO, *, access: bool = True):
        self.out = io.StringIO()
        configure_logging(log_format, level, access=access, out=self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def line(self, request_id: str, logger: str = "tickertape.access") -> dict[str, Any]:
        """The one line that a logger wrote of a request; it may come after the answer."""
        until(lambda: bool(self._of(request_id, logger)))
        (line,) = self._of(request_id, logger)
        return line

    def _of(self, request_id: str, logger: str) -> list[dict[str, Any]]:
        return [each for each in self.lines if (each.get("request_id"), each["logger"]) == (request_id, logger)]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    names = ("", "tickertape", "tickertape.access")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = logging.getLogger().handlers
    yield
    logging.getLogger().handlers = handlers
    for logger, level in before:
        logger.setLevel(level)


def call(proxy: Proxy, session: str, request_id: str, **fields: Any) -> httpx.Response:
    body = {"model": proxy.model, "messages": HELLO, **fields}
    headers = {"X-Request-Id": request_id}
    return proxy.http.post(f"/sessions/{session}/v1/chat/completions", json=body, headers=headers)


def test_a_call_is_one_line_with_its_ids_and_times(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    log = Log()
    answer = call(proxy, session, "mine/1")
    line = log.line("mine/1")
    assert line["message"] == "POST /v1/chat/completions 200"
    assert (line["session_id"], line["turn_ids"]) == (session, [answer.headers["X-Turn-Id"]])
    assert (line["dialect"], line["outcome"], line["status"], line["level"]) == ("chat", "stop", 200, "info")
    assert line["completion_tokens"] == 2
    assert 0 < line["engine_seconds"] < line["total_seconds"] < line["seconds"]


def test_a_line_that_is_written_while_a_turn_is_taken_names_it(start_proxy: StartProxy, session: str) -> None:
    def script(_ids: list[int], _sampling: Sampling) -> list[int]:
        logging.getLogger("a.library").warning("it is odd")
        return [151645]

    proxy = start_proxy(ScriptedEngine(script))
    log = Log()
    for stream in (False, True):
        answer = call(proxy, session, f"odd-{stream}", stream=stream)
        line = log.line(f"odd-{stream}", "a.library")
        assert (line["session_id"], line["turn_ids"]) == (session, [answer.headers["X-Turn-Id"]])


def test_concurrent_requests_are_not_confused(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi there<|im_end|>"), delay=0.01))
    log = Log()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda k: call(proxy, f"{session}-{k}", f"id-{k}", stream=bool(k % 2)), range(8)))
    for number, answer in enumerate(answers):
        line = log.line(f"id-{number}")
        assert (line["session_id"], line["turn_ids"]) == (f"{session}-{number}", [answer.headers["X-Turn-Id"]])


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "né", 'a"b', "{}"])
def test_request_id_that_is_none_is_replaced(start_proxy: StartProxy, given: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    answer = proxy.http.get("/v1/models", headers={b"X-Request-Id": given.encode()})
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_every_answer_names_its_request(start_proxy: StartProxy, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    headers = {"X-Request-Id": "mine"}
    body = {"model": proxy.model, "messages": HELLO, "max_tokens": 9}
    for path in ("/nowhere", "/health", "/metrics", f"/sessions/{session}"):
        assert proxy.http.get(path, headers=headers).headers["X-Request-Id"] == "mine"
    for stream in (False, True):
        answer = proxy.http.post("/v1/messages", json={**body, "stream": stream}, headers=headers)
        assert (answer.headers["X-Request-Id"], answer.headers["request-id"]) == ("mine", "mine")
    monkeypatch.setattr("tickertape.server.turns.turns.Turns.count_prompt", _broken)
    answer = proxy.http.post("/v1/messages/count_tokens", json=body, headers=headers)
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (500, "mine")


def _broken(*_: object) -> int:
    raise RuntimeError("a bug")


def test_probes_are_told_at_debug_level_alone(start_proxy: StartProxy) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    log = Log()
    proxy.http.get("/health", headers={"X-Request-Id": "probe"})
    proxy.http.get("/v1/models", headers={"X-Request-Id": "call"})
    log.line("call")
    assert not [line for line in log.lines if line["request_id"] == "probe"]
    detailed = Log(level=LogLevel.DEBUG)
    proxy.http.get("/health", headers={"X-Request-Id": "probe"})
    assert detailed.line("probe")["level"] == "debug"


def test_a_refusal_says_why_and_where_and_nothing_that_was_sent(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")), unknown_fields="reject")
    log = Log()
    assert call(proxy, session, "value", temperature=f"hot {SECRET}").status_code == 400
    assert (log.line("value")["code"], log.line("value")["param"]) == ("invalid_value", "temperature")
    assert call(proxy, session, "name", **{f"made up {SECRET}": 1}).status_code == 400
    assert (log.line("name")["code"], log.line("name")["param"]) == ("unknown_field", None)
    assert call(proxy, session, "well").status_code == 200
    assert "code" not in log.line("well")
    assert SECRET not in log.out.getvalue()


def test_a_path_that_is_no_route_is_in_the_log(start_proxy: StartProxy) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    log = Log()
    proxy.http.post("/chat/completions%0Aforged", headers={"X-Request-Id": "lost"})
    line = log.line("lost")
    assert line["message"] == "POST /chat/completions%0Aforged 404"
    assert (line["route"], line["code"]) == ("/chat/completions%0Aforged", "not_found")


def test_access_lines_can_be_turned_off(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    log = Log(access=False)
    call(proxy, session, "quiet")
    logging.getLogger("tickertape").info("still heard")
    assert [line["message"] for line in log.lines] == ["still heard"]


@pytest.mark.parametrize("log_format", list(LogFormat))
@pytest.mark.parametrize("level", list(LogLevel))
def test_nothing_that_was_said_is_logged_nor_a_key(
    start_proxy: StartProxy, log_format: LogFormat, level: LogLevel
) -> None:
    engine = ScriptedEngine(playing("Hi<|im_end|>"))
    proxy = start_proxy(engine)
    proxy.http.headers["Authorization"] = f"Bearer {KEY}"
    log = Log(log_format, level)
    if level is LogLevel.INFO:
        call_all_kinds(proxy, engine)
    engine.script = _fails_with_locals
    assert call(proxy, "bug", "bug").status_code == 500
    told = log.out.getvalue()
    assert "_fails_with_locals" in told  # the traceback is there
    assert SECRET not in told
    assert KEY not in told


def _fails_with_locals(prompt_ids: list[int], _sampling: Sampling) -> list[int]:
    text = f"what was said: {SECRET[:-1]}" + SECRET[-1]
    raise RuntimeError(f"a bug with {len(prompt_ids)} tokens and {len(text)} letters")


def test_text_is_for_people(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    log = Log(LogFormat.TEXT)
    call(proxy, session, "mine")
    until(lambda: "mine" in log.out.getvalue())
    assert "POST /v1/chat/completions 200" in log.out.getvalue()
    assert f"session_id={session}" in log.out.getvalue()


def test_served_from_the_command_line_every_line_is_json(tmp_path: Path) -> None:
    end = 151645
    with faulty_vllm(streaming([vllm_event([end], [-0.5], "stop"), "[DONE]"])) as engine:
        command = [
            sys.executable,
            "-m",
            "tickertape.server.commands.cli",
            "serve",
            "--port",
            "0",
            "--log-format",
            "json",
        ]
        command += ["--engine", f"vllm={engine}", "--model", str(qwen3_dir()), "--db", str(tmp_path / "tape.db")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            told = []
            for line in process.stderr:
                told.append(line)
                if found := re.search(r"listening on http://127.0.0.1:(\d+)", line):
                    break
            port = int(found[1]) if found else 0
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            headers = {"X-Request-Id": "mine", "Authorization": f"Bearer {KEY}"}
            answer = httpx.post(url, json={"model": "faulty", "messages": HELLO}, headers=headers)
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"this is no HTTP\r\n\r\n")
                connection.recv(1000)
            process.send_signal(signal.SIGTERM)
            told += process.stderr
    lines = [json.loads(line) for line in told]
    assert answer.headers["X-Request-Id"] == "mine"
    assert [line["request_id"] for line in lines if line["logger"] == "tickertape.access"] == ["mine"]
    assert any(line["logger"] == "uvicorn.error" and "cannot be read as HTTP" in line["message"] for line in lines)
    assert SECRET not in "".join(told)
    assert KEY not in "".join(told)
