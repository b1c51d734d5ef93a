"""What holds for a pool whatever its engines and callers do."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients.flaky_engine import FlakyEngine, ask, started
from tickertape.clients.engines.errors import EngineError, EngineGone, EngineRefused, EngineUnavailable

TOKENS = 3
FAULTS = (
    (0, EngineGone("gone")),
    (0, EngineUnavailable("503")),
    (0, EngineRefused("no")),
    (1, EngineUnavailable("broke off")),
    (2, EngineGone("gone")),
)


@dataclass
class Request:
    """One caller: when it comes, when it loses patience (in steps of the loop; ``None``: never), what it saw."""

    session: int
    starts: int
    leaves: int | None
    prompt: int
    seen: list[int] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)
    asked_after_token: bool = False


@dataclass(frozen=True)
class Happening:
    """An engine goes down or comes up, at a step."""

    step: int
    engine: int
    up: bool


requests = st.lists(
    st.builds(
        Request,
        session=st.integers(0, 3),
        starts=st.integers(0, 20),
        leaves=st.none() | st.integers(0, 25),
        prompt=st.sampled_from([1, 300, 9000]),
    ),
    min_size=1,
    max_size=16,
)
happenings = st.lists(st.builds(Happening, st.integers(0, 30), st.integers(0, 2), st.booleans()), max_size=6)
faults = st.lists(st.lists(st.sampled_from(FAULTS), max_size=4), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(requests, happenings, faults, st.sampled_from([1, 2, None]))
def test_limits_hold_every_request_ends_and_nothing_leaks(
    wanted: list[Request],
    happening: list[Happening],
    failing: list[list[tuple[int, EngineError]]],
    limit: int | None,
) -> None:
    engines = {f"e{number}": FlakyEngine(TOKENS) for number in range(len(failing))}
    for engine, planned in zip(engines.values(), failing, strict=True):
        engine.faults.extend((after, type(error)(str(error))) for after, error in planned)
    asyncio.run(_play(engines, wanted, happening, limit))
    assert all(limit is None or engine.most <= limit for engine in engines.values())
    for request in wanted:
        assert not request.asked_after_token
        assert request.seen == list(range(len(request.seen)))


async def _play(
    engines: dict[str, FlakyEngine], wanted: list[Request], happening: list[Happening], limit: int | None
) -> None:
    async with started(engines, limit=limit, patience=0.03, probe_every=0.003) as pool:

        async def run(request: Request) -> None:
            await _steps(request.starts)

            def note(_: object) -> None:
                request.asked_after_token |= bool(request.seen)

            await ask(pool, str(request.session), prompt=request.prompt, on_engine=note, on_token=request.seen.append)

        async def leave(task: asyncio.Task[None], step: int) -> None:
            await _steps(step)
            task.cancel()

        async def happen(one: Happening) -> None:
            await _steps(one.step)
            list(engines.values())[one.engine % len(engines)].up = one.up

        tasks = [asyncio.create_task(run(request)) for request in wanted]
        leaving = [leave(t, r.leaves) for t, r in zip(tasks, wanted, strict=True) if r.leaves is not None]
        beside = asyncio.gather(*leaving, *(happen(one) for one in happening))
        async with asyncio.timeout(5):
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await beside
        for request, end in zip(wanted, ends, strict=True):
            assert end is None or isinstance(end, EngineError | asyncio.CancelledError), repr(end)
            assert end is not None or len(request.seen) == TOKENS
        assert pool.waiting == 0
        assert [(m.running, m.running_tokens) for m in pool.members.values()] == [(0, 0)] * len(engines)
        assert [engine.running for engine in engines.values()] == [0] * len(engines)


async def _steps(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.data())
def test_the_line_is_served_in_order_of_arrival(members: int, limit: int, number: int, data: st.DataObject) -> None:
    """Some leave it; the others keep their order, whichever engine has room."""
    gone = data.draw(st.sets(st.integers(0, number - 1)))

    async def play() -> list[int]:
        engines = {f"e{k}": FlakyEngine() for k in range(members)}
        async with started(engines, limit=limit) as pool:
            gate = asyncio.Event()
            for engine in engines.values():
                engine.gate = gate
            order: list[int] = []
            holding = [asyncio.create_task(ask(pool)) for _ in range(members * limit)]
            await _steps(3)
            line = []
            for k in range(number):
                line.append(asyncio.create_task(ask(pool, number=k, order=order)))
                await _steps(1)
            assert pool.waiting == number
            for k in gone:
                line[k].cancel()
            gate.set()
            await asyncio.gather(*holding, *line, return_exceptions=True)
            return order

    assert asyncio.run(play()) == [k for k in range(number) if k not in gone]
