"""Renderers side by side, on Qwen3's real vocabulary: `python -m benchmarks.renderers`.

Contenders: Tickertape's `qwen3` and `template` renderers, `apply_chat_template` of transformers, and PrimeIntellect's
`renderers`, each in a process of its own. They take turns, slice by slice: what else the machine does meets them all.

* render: a tool conversation of 50 turns and about 19,000 tokens, another one each time, to ids;
* bridge: one tool message of about 250 tokens appended to that prompt and a completion;
* parse: a completion of about 1,150 tokens with reasoning and a tool call.

The results of all must be equal, else the run says so. PrimeIntellect's package needs an older `openai` than other
things do: `--peer DIR` names a virtual environment with it, made there if it does not exist (the extra `bench`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.children import ROOT
from benchmarks.peers import peer_python
from benchmarks.table import machine, show_table

#: Measure to the calls of a slice. A first slice is not counted.
CALLS = {"render": 4, "bridge": 60, "parse": 60}
SLICES = 6
TITLES = {"qwen3": "Tickertape, qwen3", "template": "Tickertape, template", "transformers": "apply_chat_template"}
PEER = "PrimeIntellect renderers"


@dataclass
class Worker:
    """A contender's process."""

    name: str
    process: subprocess.Popen[str]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def measure(self, what: str, first: int, count: int, *, counted: bool) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {first} {count}\n")
        self.process.stdin.flush()
        answer = self.read()
        if counted and answer["seconds"]:
            self.seconds.setdefault(what, []).extend(answer["seconds"])
        self.digests.append(answer["digest"] if answer["seconds"] else "")


def start(stack: ExitStack, name: str, python: str, directory: Path) -> Worker:
    command = [python, "-m", "benchmarks.renderer_worker", name, str(directory)]
    environment = os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    stack.callback(process.kill)
    worker = Worker(TITLES.get(name, PEER), process)
    worker.sizes = worker.read()
    return worker


def sections(workers: Sequence[Worker]) -> list[list[list[str]]]:
    """Rows for each measure; the first worker is what the others are compared with."""
    return [
        [row(what, worker, workers[0].seconds[what]) for worker in workers if what in worker.seconds] for what in CALLS
    ]


def row(what: str, worker: Worker, ours: Sequence[float]) -> list[str]:
    seconds = worker.seconds[what]
    median = statistics.median(seconds)
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    spread = f"{1000 * tenths[0]:.2f} – {1000 * tenths[-1]:.2f}"
    return [
        what,
        worker.name,
        f"{1000 * median:.2f}",
        spread,
        f"{median / statistics.median(ours):.1f}",
        str(len(seconds)),
    ]


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.renderers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--tokenizer", type=Path, help="directory with Qwen3's tokenizer.json and chat template")
    options.add_argument(
        "--peer", type=Path, help="virtual environment with PrimeIntellect's renderers; made if absent"
    )
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    if given.tokenizer is None:
        from tests.materials import qwen3_dir

        given.tokenizer = qwen3_dir()

    with ExitStack() as stack:
        workers = [start(stack, name, sys.executable, given.tokenizer) for name in TITLES]
        if given.peer is not None:
            workers.append(start(stack, "peer", peer_python(given.peer, "bench"), given.tokenizer))
        number = 1
        for part in range(SLICES + 1):
            for what, count in CALLS.items():
                for worker in workers:
                    worker.measure(what, number, count, counted=part > 0)
                number += count
    titles = ["measure", "contender", "median ms", "p10 – p90 ms", "of ours", "calls"]
    unlike = [worker.name for worker in workers if not alike(worker, workers[0])]
    sizes = workers[0].sizes
    notes = [
        machine(),
        f"prompt of {sizes['prompt']:,} tokens, completion of {sizes['completion']:,}; "
        + (f"NOT the same results: {', '.join(unlike)}" if unlike else "all gave the same results"),
    ]
    if given.peer is None:
        notes.append(f"{PEER}: absent; --peer DIR brings it")
    show_table(titles, sections(workers), notes, markdown=given.markdown)


def alike(worker: Worker, other: Worker) -> bool:
    """Whether both gave the same results, where both can do what was asked."""
    return all(mine == theirs for mine, theirs in zip(worker.digests, other.digests, strict=True) if mine)


if __name__ == "__main__":
    main()
