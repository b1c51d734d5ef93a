"""The command line, as a person starts it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.command_line import tickertape
from tests.engines import Handler, faulty_vllm
from tests.materials import qwen3_dir

UNREACHED = "vllm=http://127.0.0.1:1"


@pytest.fixture
def never() -> Handler:
    async def handler(_: object) -> object:
        raise AssertionError("nothing is sampled here")

    return handler  # type: ignore[return-value]


def test_serve_says_what_it_chose_and_ends_on_sigterm(tmp_path: Path, never: Handler) -> None:
    with faulty_vllm(never) as url:
        command = [sys.executable, "-m", "tickertape.server", "serve", "--port", "0", "--engine", f"vllm={url}"]
        command += ["--model", str(qwen3_dir()), "--db", str(tmp_path / "tape.db")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = ""
        while "listening" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert "renderer  qwen3: qwen3 renders every probe" in said
        assert f"engine vllm-0 is ready: at {url}: faulty, 4096 tokens of context" in said
        address = re.search(r"http://127\.0\.0\.1:\d+", said.split("listening on")[1])
        assert address is not None
        assert httpx.get(f"{address.group()}/ready").json() == {"status": "ready"}
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
        process.stderr.close()


def test_serve_listens_before_there_is_an_engine_and_ends_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tickertape.server", "serve", "--port", "0", "--engine", UNREACHED]
    command += ["--model", str(qwen3_dir()), "--db", str(tmp_path / "tape.db")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "listening" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert "engine    vllm-0 is down: http://127.0.0.1:1 cannot be reached" in said
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(20) == 0
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engine", "tgi=http://127.0.0.1:1"], "it must be vllm=http://HOST:PORT or sglang=http://HOST:PORT"),
        (["--engine", UNREACHED], "needs --model"),
        (["--gguf", "nowhere.gguf"], "nowhere.gguf: there is no such file"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
        (["--engine", UNREACHED, "--model", "QWEN3", "--renderer", "llama"], "no renderer is called 'llama'"),
        (["--engine", UNREACHED, "--model", "./nothing-there"], "there is no directory ./nothing-there"),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [str(qwen3_dir()) if argument == "QWEN3" else argument for argument in arguments]
    done = tickertape("serve", "--port", "0", "--db", str(tmp_path / "tape.db"), *given)
    assert done.exit_code == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_cannot_serve_ends_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tickertape.server", "serve", "--port", "0", "--gguf", "nowhere.gguf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("tickertape: --gguf nowhere.gguf: there is no such file")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_demo_shows_a_real_tool_call_and_the_prefix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tickertape.server", "demo", "--no-color", "--db", str(tmp_path / "tape.db")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "calls calculator" in said
    assert "turn 1's" in said
    assert (tmp_path / "tape.db").exists()


@pytest.mark.slow
def test_benchmark_prints_its_table() -> None:
    command = [sys.executable, "-m", "benchmarks.proxy", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "Tickertape" in done.stdout
