"""Tapes that were not played but written: as many sessions as a test needs, at once."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tickertape.server.store import sessions
from tickertape.server.store.store import Store
from tickertape.server.trajectories.turn import Outcome, Turn

NOW = 1_700_000_000.0


def turn(session_id: str, number: int, *, delta: int, sampled: int, created_at: float = NOW) -> Turn:
    rng = np.random.default_rng(number)
    return Turn(
        id=f"{session_id}-{number}",
        session_id=session_id,
        parent_id=f"{session_id}-{number - 1}" if number else None,
        seq=number,
        created_at=created_at,
        dialect="chat",
        model="m",
        first_message=2 * number,
        messages=[{"role": "user", "content": f"question {number}"}],
        prompt_delta=rng.integers(0, 150_000, delta, np.int32),
        prompt_spans=[(-1, 0, 1), (2 * number, 1, delta - 1)],
        completion=rng.integers(0, 150_000, sampled, np.int32),
        logprobs=-rng.random(sampled, np.float32),
        versions=[(f"step-{number}", sampled)],
        outcome=Outcome.STOP,
        context_digest=bytes([number % 256]),
    )


async def write_sessions(
    store: Store, names: Iterable[str], *, turns: int = 1, delta: int = 4, sampled: int = 4, finish: bool = True
) -> None:
    """Sessions of one linear conversation each."""

    async def write(name: str) -> None:
        for number in range(turns):
            await store.commit(turn(name, number, delta=delta, sampled=sampled))

    names = list(names)
    await asyncio.gather(*map(write, names))
    if finish:

        def finish_all(connection: object) -> None:
            for name in names:
                sessions.finish(connection, name, time.time())  # type: ignore[arg-type]

        await store.write(finish_all)


def written_tape(place: str | Path, names: Iterable[str], *, turns: int = 1, finish: bool = True) -> str | Path:
    """A tape with such sessions, closed."""

    async def write() -> None:
        store = Store(place)
        await write_sessions(store, names, turns=turns, finish=finish)
        store.close()

    asyncio.run(write())
    return place
