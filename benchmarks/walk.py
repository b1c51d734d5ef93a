"""How far a turn walks: the files and functions of ours that one bridged chat turn visits, in the real server.

``python -m benchmarks.walk``, from the root. The server runs in this process with a profiler's hook in every thread;
the engine is the paced fake, in a process of its own. A session has its first turn, then others that extend it: one of
them is counted, from its first byte to its answer, commit included.
"""

import argparse
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks.children import ROOT, child
from benchmarks.proxy import default_tokenizer
from benchmarks.vocabulary import Vocabulary
from benchmarks.workload import Agent, Context, Session

#: The rooms that count, as folders of the checkout.
ROOMS = ("clients", "renderers", "server")


class Walk:
    """Counts calls of our functions while it is on."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self._is_on = False

    def hook(self, frame: FrameType, event: str, _argument: Any) -> None:
        """See :func:`sys.setprofile`."""
        if self._is_on and event == "call":
            self.calls[frame.f_code] += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def visited(self) -> dict[str, Counter[str]]:
        """Calls by function, by file."""
        files: dict[str, Counter[str]] = {}
        for code, calls in self.calls.items():
            path = Path(code.co_filename).resolve()
            if code.co_name.startswith("<"):  # a comprehension or a lambda is part of the function around it
                continue
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS:
                functions = files.setdefault(str(path.relative_to(ROOT)), Counter())
                functions[f"{code.co_qualname}:{code.co_firstlineno}"] += calls
        return files


def walk(tokenizer: Path, *, stream: bool) -> dict[str, Counter[str]]:
    """Takes the turn that is counted."""
    from tickertape.server.serving.running import serving
    from tickertape.server.settings import Settings

    counted = Walk()
    threading.setprofile(counted.hook)
    sys.setprofile(counted.hook)
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "engine.log"
        arguments = ("--tokenizer", str(tokenizer), "--interval", "0.001")
        with child("benchmarks.paced_engine", *arguments, core=None, ready="/health", log=log) as engine:
            settings = Settings(
                engines=[f"vllm=http://127.0.0.1:{engine.port}"],
                model=str(tokenizer),
                db=str(Path(scratch) / "tape.db"),
                port=0,
            )
            with serving(settings) as url:
                agent = Agent(int(url.rpartition(":")[2]))
                session = Session(agent, Context(Vocabulary(tokenizer), 512), "walk", stream=stream)
                agent.call(session.turn(0))  # caches fill
                with counted.counting():
                    agent.call(session.turn(1))
    sys.setprofile(None)
    threading.setprofile(None)
    return counted.visited()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokenizer", type=Path, help="directory of a tokenizer; default: Qwen's")
    options.add_argument("--stream", action="store_true", help="a turn whose answer is sent as it is sampled")
    options.add_argument("--functions", action="store_true", help="name the functions too")
    given = options.parse_args()
    files = walk(given.tokenizer or default_tokenizer(), stream=given.stream)
    for path, functions in sorted(files.items()):
        print(f"{path}  {len(functions)} functions, {sum(functions.values())} calls")
        if given.functions:
            for name, calls in functions.most_common():
                print(f"    {calls:4}  {name}")
    n_functions = sum(map(len, files.values()))
    n_calls = sum(sum(functions.values()) for functions in files.values())
    print(f"{len(files)} files, {n_functions} functions, {n_calls} calls")


if __name__ == "__main__":
    main()
