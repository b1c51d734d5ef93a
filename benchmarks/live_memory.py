"""What live sessions take up in memory: `python -m benchmarks.live_memory`, from the root.

Sessions of 16k tokens each are grown turn by turn, as the server grows them, in this process; what else a turn holds
(messages, response, logprobs) is on tape and not kept. Measured is the growth of the resident memory.

"Beside" is what a turn takes up beside four bytes for each of its tokens. The limits that it is held against: 6 bytes
per token and 4 KB per turn; 2 GB for 10,000 sessions.
"""

import argparse
import gc
import hashlib
import os
import random

import numpy as np

from benchmarks.table import machine, show_table
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Outcome, Turn

TOKENS = 16 * 1024
TURNS = (8, 50, 200)


def grow(session_id: str, n_turns: int, numbers: random.Random) -> SessionTree:
    """A session with one linear conversation."""
    tree = SessionTree(session_id)
    parent: str | None = None
    added = TOKENS // n_turns
    for seq in range(n_turns):
        digests = [hashlib.sha256(numbers.randbytes(16)).hexdigest() for _ in range(3)]
        turn = Turn(
            id=f"{numbers.getrandbits(128):032x}",
            session_id=session_id,
            parent_id=parent,
            seq=seq,
            created_at=0.0,
            dialect="chat",
            model="m",
            tools_digest="0" * 32,
            prompt_delta=np.full(added // 2, seq, np.int32),
            completion=np.full(added - added // 2, seq, np.int32),
            outcome=Outcome.STOP,
            context_digest=numbers.randbytes(16),
            digests={"request": digests[0][:32], "answer": digests[1][:16], "line": digests[2][:16]},
        )
        tree.add(turn, "")
        parent = turn.id
    return tree


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(n_turns: int, sessions: int) -> list[str]:
    """A row of the table. In a child process, so that no row has memory that another one left."""
    reading, writing = os.pipe()
    if not os.fork():
        gc.disable()  # looking for garbage among millions of live objects would take most of the time
        numbers = random.Random(n_turns)
        warm = [grow(f"warm {k}", n_turns, numbers) for k in range(5)]
        before = resident()
        trees = [grow(f"session {k}", n_turns, numbers) for k in range(sessions)]
        os.write(writing, str(resident() - before).encode())
        os._exit(len(warm) + len(trees) == 0)
    os.wait()
    taken = int(os.read(reading, 64))
    tokens = sessions * n_turns * (TOKENS // n_turns)
    return [
        f"{sessions:,}",
        str(n_turns),
        f"{taken / 2**20:,.0f}",
        f"{taken / tokens:.2f}",
        f"{(taken - 4 * tokens) / (sessions * n_turns):,.0f}",
        f"{taken / sessions * 10_000 / 2**30:.2f}",
    ]


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.live_memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--sessions", type=int, default=1000, help="10000 needs 2 GB and some minutes")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    titles = ["sessions", "turns\neach", "MB", "bytes\nper token", "bytes a turn\nbeside", "GB for\n10,000"]
    rows = [measure(n_turns, given.sessions) for n_turns in TURNS]
    show_table(titles, [rows], [machine(), f"{TOKENS:,} tokens a session"], markdown=given.markdown)


if __name__ == "__main__":
    main()
