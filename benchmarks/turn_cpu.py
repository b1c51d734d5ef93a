"""CPU time of a turn on an engine that streams as real ones do: ``python -m benchmarks.turn_cpu``, from the root.

The engine is a fake one (``paced_engine.py``) that sends one event for each of a turn's 128 tokens, at the pace of a
clock, or in the intervals that it is asked for, as vLLM does since 0.32. The limit is ``bare_relay.py``: the same HTTP
server and client, and nothing in between. A turn of Tickertape is a bridged one, with its tape on disk. Measured is the
CPU time of the proxy's process, all its threads, by /proc. Other work on the machine makes it longer, for all alike, so
the ratios of one run compare.

Rows:

- complete answers, chunks as the engine offers them: no client reads along, so Tickertape asks for chunks of 64;
- complete answers, an older engine: it sends an event a token whatever is asked;
- streamed answers: an event a token on both sides;
- turn 5 and turn 50 of a session, with what their longer histories cost.

`--peer DIR` adds rllm-model-gateway, from an environment made there (the extra `bench-gateway`). It leaves rendering to
the engine: its rows are chat completions with ids and logprobs, recorded in its SQLite store.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from benchmarks.children import Child, child
from benchmarks.load import Load, Request, post
from benchmarks.peers import peer_python
from benchmarks.proxy import COMPLETIONS, default_tokenizer
from benchmarks.table import machine
from benchmarks.vocabulary import Vocabulary
from benchmarks.workload import Agent, Context, Session, turns

#: Tokens in one event, where a relay's client asks for as few events as possible.
ALL_TOGETHER = 1_000_000


@dataclass(frozen=True)
class Run:
    """What all measurements share."""

    tokenizer: Path
    n_tokens: int
    sessions: int
    seconds: float
    interval: float
    scratch: Path

    def cpu_ms(self, process: Child, requests: Iterator[Request]) -> float:
        """CPU time of a process for each request, with as many at once as there are sessions."""
        load = Load(requests, 0.5, self.seconds)
        before = process.cpu_seconds()
        load.run(process.port, self.sessions)
        return 1000 * (process.cpu_seconds() - before) / len(load.finished)

    @contextmanager
    def engine(self, *options: str) -> Iterator[str]:
        arguments = ("--tokenizer", str(self.tokenizer), "--interval", str(self.interval), *options)
        log = self.scratch / "engine.log"
        with child("benchmarks.paced_engine", *arguments, core=None, ready="/health", log=log) as process:
            yield f"http://127.0.0.1:{process.port}"

    def relayed(self, engine: str, context: Context, *, together: bool) -> float:
        asked = orjson.loads(context.engine_body()) | ({"stream_interval": ALL_TOGETHER} if together else {})
        log = self.scratch / "relay.log"
        with child("benchmarks.bare_relay", "--engine", engine, core=None, ready="/", log=log) as relay:
            return self.cpu_ms(relay, itertools.repeat(post(COMPLETIONS, orjson.dumps(asked))))

    def gateway(self, python: str, engine: str, context: Context, *, stream: bool) -> float:
        """The same turn through rllm-model-gateway, as far as it knows turns: it forwards and records chat calls."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            arguments = ("--host", "127.0.0.1", "--worker", f"{engine}/v1", "--db-path", f"{folder}/traces.db")
            log = self.scratch / "gateway.log"
            with child(
                "rllm_model_gateway",
                *arguments,
                *("--log-level", "ERROR"),
                core=None,
                ready="/health",
                log=log,
                python=python,
            ) as process:
                sessions = [f"/sessions/session-{n}/v1/chat/completions" for n in range(self.sessions)]
                body = context.second_turn(stream=stream)
                return self.cpu_ms(process, (post(path, body) for path in itertools.cycle(sessions)))

    def taken(self, engine: str, context: Context, *, stream: bool, depth: int = 1) -> float:
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            arguments = ("serve", "--host", "127.0.0.1", "--db", f"{folder}/tape.db", "--engine", f"vllm={engine}")
            log = self.scratch / "tickertape.log"
            with child(
                "tickertape.server",
                *arguments,
                *("--model", str(self.tokenizer)),
                core=None,
                ready="/ready",
                log=log,
            ) as process:
                agent = Agent(process.port)
                names = (f"session-{number}" for number in range(self.sessions))
                prime = partial(Session, agent, context, stream=stream, depth=depth)
                with ThreadPoolExecutor(self.sessions) as threads:  # an answer takes as long as an engine samples
                    sessions = list(threads.map(prime, names))
                spent = self.cpu_ms(process, turns(sessions))
                if not agent.bridged(sessions[0]):
                    raise SystemExit("Tickertape did not bridge; these are not its numbers")
                return spent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokenizer", type=Path, help="directory of a tokenizer; default: Qwen's")
    options.add_argument("--context", type=int, default=5000, help="tokens before the turn")
    options.add_argument("--sessions", type=int, default=32)
    options.add_argument("--seconds", type=float, default=8, help="that each measurement takes")
    options.add_argument("--peer", type=Path, help="environment with rllm-model-gateway; made if absent")
    options.add_argument("--interval", type=float, default=0.004, help="seconds between two tokens of a stream")
    given = options.parse_args()
    tokenizer = given.tokenizer or default_tokenizer()
    python = None if given.peer is None else peer_python(given.peer, "bench-gateway")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run = Run(tokenizer, given.context, given.sessions, given.seconds, given.interval, scratch)
        context = Context(Vocabulary(tokenizer), given.context)
        rows = rows_of(run, context, python)
    print("| CPU ms per turn of 128 tokens | bare relay | rllm-model-gateway | Tickertape | of relay | of gateway |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, relayed, peer, taken in rows:
        beside = ["–", f"{taken:.2f}", f"{taken / relayed:.1f}", "–"]
        if peer is not None:
            beside[0], beside[3] = f"{peer:.2f}", f"{taken / peer:.2f}"
        print(f"| {name} | {relayed:.2f} | {' | '.join(beside)} |")
    print(f"\n{machine()}; {given.context} tokens of context, {given.sessions} sessions at once")


def rows_of(run: Run, context: Context, python: str | None) -> list[tuple[str, float, float | None, float]]:
    """Each with the milliseconds of the relay, of the peer and of Tickertape."""

    def peer(engine: str, *, stream: bool) -> float | None:
        return None if python is None else run.gateway(python, engine, context, stream=stream)

    rows: list[tuple[str, float, float | None, float]] = []
    with run.engine() as engine:
        relayed = run.relayed(engine, context, together=True)
        beside = peer(engine, stream=False)
        rows.append(("complete answers", relayed, beside, run.taken(engine, context, stream=False)))
        for depth in (4, 49):
            taken = run.taken(engine, context, stream=False, depth=depth)
            rows.append((f"complete answers, turn {depth + 1} of a session", relayed, None, taken))
    with run.engine("--ignore-interval") as engine:
        relayed = run.relayed(engine, context, together=False)
        older = "complete answers, an event a token whatever is asked"
        rows.append((older, relayed, None, run.taken(engine, context, stream=False)))
        beside = peer(engine, stream=True)
        rows.append(("streamed answers, an event a token", relayed, beside, run.taken(engine, context, stream=True)))
    return rows


if __name__ == "__main__":
    main()
