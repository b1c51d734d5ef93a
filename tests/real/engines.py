"""Real vLLM and SGLang servers on CPU, for the tests that are marked ``real``.

``.ci/install-engine`` installs them; here they are started, one process each on a free loopback port, and ended.
"""

import contextlib
import os
import runpy
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["vllm", "sglang"]

_ROOT = Path(__file__).parent.parent.parent
_INSTALLER = runpy.run_path(str(_ROOT / ".ci" / "install-engine"))
#: Seconds to a served request; loading takes 20 to 40 on two cores that do nothing else.
_PATIENCE = 240.0
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How an engine is started on CPU."""

    module: str
    model_option: str
    options: tuple[str, ...]
    environment: Mapping[str, str]


LAYOUTS: dict[Kind, Layout] = {
    # --enforce-eager and no dynamo: compiling would take 40 s of each start. Dev mode opens /pause, /abort_requests, …;
    # --enable-scale-out the token endpoint /inference/v1/generate. Prompts are read in one step: the CPU build dies of
    # a seeded request whose prompt is read in several ("CPU Generator does not use offset").
    "vllm": Layout(
        "vllm.entrypoints.openai.api_server",
        "--model",
        (
            *("--max-model-len", "4096", "--max-num-seqs", "64", "--enforce-eager", "--enable-scale-out"),
            *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096"),
        ),
        {
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_SERVER_DEV_MODE": "1",
            "TORCHDYNAMO_DISABLE": "1",
        },
    ),
    "sglang": Layout(
        "sglang.launch_server",
        "--model-path",
        (
            *("--device", "cpu", "--attention-backend", "torch_native", "--sampling-backend", "pytorch"),
            # --max-total-tokens is the cache's size; the fraction only has to leave room for it, even when other
            # processes allocate memory meanwhile, which SGLang takes for its weights.
            *("--context-length", "4096", "--max-total-tokens", "16384", "--mem-fraction-static", "0.8"),
            *("--disable-overlap-schedule", "--sleep-on-idle"),  # an idle scheduler would take a whole core
        ),
        {"SGLANG_USE_CPU_ENGINE": "1", "PYTHONPATH": str(Path(__file__).parent / "sglang_cpu")},
    ),
}


@dataclass(frozen=True, slots=True)
class RealServer:
    """An engine's server that is running."""

    kind: Kind
    url: str
    model: Path
    """The directory of its model and tokenizer."""
    log: Path
    process: subprocess.Popen[bytes]

    def tail(self) -> str:
        """The end of its log."""
        return f"{self.log}:\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-60:])


def installed(kind: Kind) -> Path:
    """The engine's virtual environment.

    Raises:
        FileNotFoundError: it is not installed; the text says how to.
    """
    directory: Path = _INSTALLER["directory"](kind)
    if not (directory / _INSTALLER["MARKER"]).exists():
        raise FileNotFoundError(f"{kind} is not installed in {directory}: .ci/install-engine {kind}")
    return directory


@contextmanager
def started(
    kind: Kind,
    model: Path,
    log: Path,
    *,
    options: Sequence[str] = (),
    dtype: str = "float32",
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[RealServer]:
    """A server that answers, until the block ends. It has a process group of its own, all of which is ended.

    Args:
        kind: which engine.
        model: directory of its weights and its tokenizer.
        log: its output goes there.
        options: more options for its command line; later ones win.
        dtype: what it computes in.
        environment: more environment variables.
        port: where it listens; a free one if not given.
    """
    layout, port = LAYOUTS[kind], port or _free_port()
    command = (
        *(str(installed(kind) / "bin" / "python"), "-W", "ignore", "-m", layout.module),
        *(layout.model_option, str(model), "--served-model-name", "tiny", "--dtype", dtype),
        *("--host", "127.0.0.1", "--port", str(port), *layout.options, *options),
    )
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=inherited | _QUIET | layout.environment | (environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    server = RealServer(kind, f"http://127.0.0.1:{port}", model, log, process)
    try:
        _wait(server)
        yield server
    finally:
        _end(process)


def _wait(server: RealServer) -> None:
    """Until the server has answered on ``/health``, which needs the model."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.kind} ended with {server.process.returncode}; {server.tail()}")
        if _healthy(server.url):
            return
        time.sleep(0.5)
    raise TimeoutError(f"{server.kind} did not answer within {_PATIENCE:.0f} s; {server.tail()}")


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:  # urllib's own errors are kinds of it
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and the workers that it started: they are its process group, which only it was given."""
    for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
