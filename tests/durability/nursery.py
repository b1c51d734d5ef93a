"""Starts servers fast: `python -m tests.durability.nursery`, a process that has loaded everything and forks.

Each server is a process of its own that runs `tickertape serve` from its first line on; only Python's imports, most of
the time of a start, are done already, and the tokenizer is read. One JSON object in each line of the standard input,
one answered for each:

- `{"serve": [arguments], "log": path}`: starts a server; `{"pid": …}`.
- `{"kill": pid}`: kill -9, and waits until it is dead; `{"signal": …}`, by which it ended, 0 if it had ended itself.
"""

import gc
import json
import os
import signal
import sys
from functools import cache
from typing import Any
from unittest.mock import patch

from tests.materials import qwen3_dir
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.commands.cli import main as tickertape


def serve(arguments: list[str], log: str) -> int:
    """Forks a server; gives its process id."""
    pid = os.fork()
    if pid:
        return pid
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["tickertape", "serve", *arguments]
    try:
        tickertape()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def main() -> None:
    patch.object(Tokenizer, "load", cache(Tokenizer.load)).start()
    get_renderer("qwen3", Tokenizer.load(str(qwen3_dir())))
    gc.freeze()
    alive: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        if "serve" in asked:
            pid = serve(asked["serve"], asked["log"])
            alive.add(pid)
            answer = {"pid": pid}
        else:
            pid = asked["kill"]
            alive.remove(pid)  # a KeyError for what was not started here
            os.kill(pid, signal.SIGKILL)  # not waited for yet, so nobody else can have its number
            answer = {"signal": os.WTERMSIG(os.waitpid(pid, 0)[1])}
        print(json.dumps(answer), flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
