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


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(0, 4), min_size=1, max_size=20), st.data())
def test_sessions_in_the_line_are_served_in_turn(
    members: int, limit: int, sessions: list[int], data: st.DataObject
) -> None:
    """Some requests leave it. The others of a session keep their order, and sessions come round in the order in which
    they came, whichever engine has room."""
    number = len(sessions)
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
                line.append(asyncio.create_task(ask(pool, f"s{sessions[k]}", number=k, order=order)))
                await _steps(1)
            assert pool.waiting == number
            for k in gone:
                line[k].cancel()
            gate.set()
            await asyncio.gather(*holding, *line, return_exceptions=True)
            return order

    assert asyncio.run(play()) == _rounds(sessions, gone)


def _rounds(sessions: list[int], gone: set[int]) -> list[int]:
    """One request of each session, then another one of each that has one, and so on."""
    left = {s: [k for k, of in enumerate(sessions) if of == s and k not in gone] for s in dict.fromkeys(sessions)}
    order = []
    while any(left.values()):
        order += [waiting.pop(0) for waiting in left.values() if waiting]
    return order


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 100), st.integers(1, 4), st.integers(1, 4))
def test_session_with_many_calls_keeps_another_one_waiting_for_one_turn_each(many: int, limit: int, few: int) -> None:
    """However many calls a session has in the line: the k-th of another one is at most the 2k-th that gets a place."""

    async def play() -> list[int]:
        engine = FlakyEngine()
        engine.gate = gate = asyncio.Event()
        async with started({"e": engine}, limit=limit) as pool:
            order: list[int] = []
            holding = [asyncio.create_task(ask(pool)) for _ in range(limit)]
            await _steps(3)
            line = [asyncio.create_task(ask(pool, "many", order=order)) for _ in range(many)]
            line += [asyncio.create_task(ask(pool, "few", number=1, order=order)) for _ in range(few)]
            await _steps(2)
            gate.set()
            await asyncio.gather(*holding, *line)
            return order

    places = [at for at, number in enumerate(asyncio.run(play()), start=1) if number == 1]
    assert all(at <= 2 * k for k, at in enumerate(places, start=1))
