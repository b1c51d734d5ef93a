"""How long requests wait for room, and for an engine that is silent."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.clients.flaky_engine import FlakyEngine, ask, pausing, started, until
from tickertape.clients.engines.engine import PauseMode
from tickertape.clients.engines.errors import EngineBusy, EngineError, EngineTimeout, Phase, QueueTimeout
from tickertape.clients.engines.pool import MemberState, Silence
from tickertape.clients.engines.pool.throughput import Pace


def holding(engine: FlakyEngine) -> asyncio.Event:
    engine.gate = asyncio.Event()
    return engine.gate


def test_request_that_waits_too_long_for_room_is_told_when_to_come_again() -> None:
    async def play() -> None:
        engine = FlakyEngine()
        gate = holding(engine)
        async with started({"e": engine}, limit=1, queue_timeout=0.05) as pool:
            first = asyncio.create_task(ask(pool))
            began = time.monotonic()
            await asyncio.sleep(0)
            with pytest.raises(QueueTimeout, match=r"within 0.05 s") as caught:
                await ask(pool, "other")
            assert 0.04 < time.monotonic() - began < 1
            assert caught.value.retry_after is not None
            assert pool.waiting == 0
            gate.set()
            await first
            await ask(pool, "other")

    asyncio.run(play())


def test_places_are_those_of_ready_engines_and_without_a_limit_any_number() -> None:
    async def play() -> None:
        engines = {"a": FlakyEngine(), "b": FlakyEngine()}
        async with started(engines, limit=3) as pool:
            assert pool.places == 6
            engines["a"].up = False
            await until(lambda: pool.members["a"].state is MemberState.DOWN)
            assert pool.places == 3
        async with started(engines | {"a": FlakyEngine()}) as pool:
            assert pool.places is None

    asyncio.run(play())


def test_engine_that_gives_no_first_token_is_left_for_another_one_once() -> None:
    async def play() -> None:
        engines = {name: FlakyEngine() for name in "abc"}
        engines["a"].silent_after = 0
        async with started(engines, timeouts=Silence(0.05, None)) as pool:
            for _ in range(3):
                assert (await ask(pool, "s"))[-1] != "a"
            for engine in engines.values():
                engine.silent_after = 0
            asked: list[str] = []
            with pytest.raises(EngineTimeout, match=r"no token within 0.05 s") as caught:
                await ask(pool, "s", on_engine=lambda member: asked.append(member.name))
            assert caught.value.phase is Phase.FIRST_TOKEN
            assert len(asked) == 2
            await until(lambda: not any(engine.running for engine in engines.values()))

    asyncio.run(play())


def test_engine_that_stops_between_tokens_is_given_up_with_what_it_gave() -> None:
    async def play() -> None:
        engine = FlakyEngine()
        engine.silent_after = 2
        async with started({"e": engine}, timeouts=Silence(None, 0.05)) as pool:
            seen: list[int] = []
            with pytest.raises(EngineTimeout, match="no further token") as caught:
                await ask(pool, on_token=seen.append)
            assert (caught.value.phase, seen) == (Phase.TOKEN, [0, 1])
            assert engine.running == 0

    asyncio.run(play())


def test_engine_that_is_slow_but_not_silent_is_waited_for() -> None:
    async def play() -> None:
        engine = FlakyEngine(tokens=6)
        engine.delay = 0.04
        async with started({"e": engine}, timeouts=Silence(0.1, 0.1)) as pool:
            seen: list[int] = []
            await ask(pool, on_token=seen.append)
            assert len(seen) == 6, "it takes longer in all than an engine may be silent"

    asyncio.run(play())


def test_caller_that_takes_its_time_is_not_the_engines_silence() -> None:
    async def play() -> None:
        async with started({"e": FlakyEngine()}, timeouts=Silence(0.05, 0.05)) as pool:
            await ask(pool, on_token=lambda _: time.sleep(0.08))

    asyncio.run(play())


def test_engine_may_be_silent_while_it_is_paused() -> None:
    async def play() -> None:
        engine = FlakyEngine(tokens=4)
        engine.info = pausing(replace(engine.info))
        gate = holding(engine)
        async with started({"e": engine}, timeouts=Silence(0.05, 0.05)) as pool:
            asking = asyncio.create_task(ask(pool))
            await asyncio.sleep(0.01)
            await pool.pause(PauseMode.KEEP)
            await asyncio.sleep(0.15)
            assert not asking.done()
            await pool.resume()
            gate.set()
            await asking
            gate.clear()
            asking = asyncio.create_task(ask(pool))
            with suppress(EngineError):
                await asking
            assert isinstance(asking.exception(), EngineTimeout), "afterwards it may not"

    asyncio.run(play())


def test_engine_that_says_it_is_busy_is_not_taken_for_down() -> None:
    async def play() -> None:
        engine = FlakyEngine()
        async with started({"e": engine}) as pool:
            for _ in range(4):
                engine.faults.append((0, EngineBusy("429")))
                with pytest.raises(EngineBusy):
                    await ask(pool)
            assert pool.members["e"].state is MemberState.READY

    asyncio.run(play())


def test_pace_is_that_of_the_last_ends() -> None:
    pace = Pace()
    assert pace.seconds_for(7) == 7.0
    for _ in range(50):
        pace.note()
        time.sleep(0.002)
    assert 0.1 < pace.seconds_for(50) < 1.0
