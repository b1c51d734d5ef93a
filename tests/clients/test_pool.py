"""Engines of a pool: which gets a request, and what becomes of it when they fail, come and go."""

import asyncio
import logging
from collections.abc import AsyncGenerator

import pytest

from tests.clients.flaky_engine import FAST, FlakyEngine, ask, pausing, started, until
from tickertape.clients.engines.engine import Chunk, EngineInfo, Feature, PauseMode
from tickertape.clients.engines.errors import EngineGone, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.pool import EnginePool, MemberState

READY, DOWN, STALE = MemberState.READY, MemberState.DOWN, MemberState.STALE


def two() -> dict[str, FlakyEngine]:
    return {"a": FlakyEngine(), "b": FlakyEngine()}


# Starting.


async def test_one_that_cannot_be_started_is_down_and_joins_later(caplog: pytest.LogCaptureFixture) -> None:
    engines = two()
    engines["a"].up = False
    with caplog.at_level(logging.WARNING, "tickertape"):
        async with started(engines) as pool:
            assert (pool.members["a"].state, pool.members["a"].reason) == (DOWN, "nobody listens")
            assert "engine a is down: nobody listens" in caplog.messages
            assert await ask(pool) == ["b"]
            engines["a"].up = True
            await until(lambda: pool.members["a"].state is READY)


async def test_a_start_does_not_need_an_engine() -> None:
    engines = two()
    engines["a"].up = engines["b"].up = False
    async with started(engines) as pool:
        assert pool.model is None
        with pytest.raises(EngineUnavailable, match=r"answered yet: a is down \(nobody listens\); b is down"):
            _ = pool.info
        with pytest.raises(EngineUnavailable, match=r"no engine is ready: a is down \(nobody listens\)"):
            await pool.check()
        engines["b"].up = True
        await pool.wait_ready()
        assert pool.model == "model"
        assert await ask(pool) == ["b"]


@pytest.mark.parametrize("error", [EngineNonsense("a web page"), EngineRefused("401"), KeyError("data")])
async def test_an_engine_that_is_none_yet_does_not_keep_a_server_from_starting(error: Exception) -> None:
    class LateEngine(FlakyEngine):
        error: Exception | None = None

        async def start(self) -> EngineInfo:
            if self.error is not None:
                raise self.error
            return await super().start()

    engine = LateEngine()
    engine.error = error
    async with started({"a": engine}) as pool:
        await until(lambda: pool.members["a"].state is DOWN)
        assert str(error) in pool.members["a"].reason
        engine.error = None
        await until(lambda: pool.members["a"].state is READY)


async def test_an_engine_that_takes_long_to_say_what_it_is_is_not_waited_for() -> None:
    class SlowEngine(FlakyEngine):
        answers = asyncio.Event()

        async def start(self) -> EngineInfo:
            await self.answers.wait()
            return await super().start()

    slow = SlowEngine()
    pool = EnginePool({"slow": slow, "hopeless": SlowEngine()}, **FAST)
    await pool.start(wait=0.02)
    assert [member.state for member in pool.members.values()] == [MemberState.STARTING] * 2
    await pool.remove("hopeless", drain_seconds=0)
    slow.answers.set()
    await until(lambda: pool.members["slow"].state is READY)
    await pool.close()


async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    class HangingEngine(FlakyEngine):
        async def start(self) -> EngineInfo:
            await asyncio.sleep(3600)
            raise AssertionError

    engine = HangingEngine()
    starting = asyncio.create_task(EnginePool({"a": engine}).start())
    await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert engine.is_closed


async def test_two_models_do_not_start_unless_names_may_differ() -> None:
    engines = {"a": FlakyEngine(), "b": FlakyEngine(info=EngineInfo("flaky", "nowhere", "other", 4096))}
    with pytest.raises(EngineRefused, match=r"engine 'b'.*'other'.*'model'"):
        await EnginePool(engines).start()
    assert engines["a"].is_closed
    async with started(engines, any_model=True) as pool:
        assert pool.members["b"].state is READY


async def test_info_is_what_all_can_hold_to() -> None:
    both, one = frozenset({Feature.PAUSE, Feature.SCORE}), frozenset({Feature.PAUSE})
    engines = {
        "a": FlakyEngine(info=EngineInfo("x", "u", "model", 4096, adapters=("p", "q"), features=both)),
        "b": FlakyEngine(info=EngineInfo("y", "v", "model", 2048, adapters=("q", "r"), features=one)),
    }
    async with started(engines) as pool:
        assert (pool.info.name, pool.info.max_context, pool.info.adapters) == ("x", 2048, ("q",))
        assert pool.info.features == one
        engines["b"].up = False
        await until(lambda: pool.members["b"].state is DOWN)
        assert pool.info.features == both
        assert pool.info.max_context == 2048  # it will be back


# Routing.


async def test_a_session_stays_with_its_engine() -> None:
    async with started(two()) as pool:
        homes = {session: (await ask(pool, session))[0] for session in "stuvwxyz"}
        assert set(homes.values()) == {"a", "b"}
        for session, home in homes.items():
            assert await ask(pool, session) == [home]


async def test_rollouts_of_one_task_go_where_its_prompt_is_cached() -> None:
    async with started(two()) as pool:
        first = await ask(pool, "s", prompt=[1] * 600)
        assert await ask(pool, "t", prompt=[2] * 600) != first
        for sibling in range(4):
            assert await ask(pool, f"sibling {sibling}", prompt=[1] * 600 + [sibling]) == first


async def test_the_longest_known_prefix_decides() -> None:
    async with started(two()) as pool:
        (short,) = await ask(pool, "s", prompt=[1] * 256 + [2] * 256)
        pool.members[short].take(100_000)  # so that the other gets the longer one
        (long,) = await ask(pool, "t", prompt=[1] * 256 + [3] * 256)
        pool.members[short].release(100_000)
        assert long != short
        assert await ask(pool, "u", prompt=[1] * 256 + [2] * 300) == [short]
        assert await ask(pool, "v", prompt=[1] * 256 + [3] * 300) == [long]


async def test_load_is_measured_in_tokens() -> None:
    engines = two()
    async with started(engines) as pool:
        engines["a"].gate = engines["b"].gate = asyncio.Event()
        heavy = asyncio.create_task(ask(pool, "heavy", prompt=4000))
        await until(lambda: sum(engine.running for engine in engines.values()) == 1)
        busy = next(name for name, engine in engines.items() if engine.running)
        light = [asyncio.create_task(ask(pool, f"light {number}", prompt=100)) for number in range(5)]
        await until(lambda: sum(engine.running for engine in engines.values()) == 6)
        assert pool.members[busy].running == 1
        assert pool.members[busy].running_tokens == 4000 + 16
        engines["a"].gate.set()
        await asyncio.gather(heavy, *light)


async def test_a_session_leaves_an_engine_that_is_clearly_more_loaded() -> None:
    async with started(two()) as pool:
        (home,) = await ask(pool)
        member = pool.members[home]
        member.take(8192)
        assert await ask(pool) == [home]
        member.take(1)
        (other,) = await ask(pool)
        assert other != home
        member.release(8193)
        member.running = 0
        assert await ask(pool) == [other]


async def test_a_full_engine_is_passed_over_and_the_line_is_first_come_first_served() -> None:
    engines = two()
    async with started(engines, limit=1) as pool:
        engines["a"].gate = engines["b"].gate = asyncio.Event()
        order: list[int] = []
        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(ask(pool, number=number, order=order)))
            await asyncio.sleep(0)
        await until(lambda: pool.waiting == 4)
        assert {name: engine.running for name, engine in engines.items()} == {"a": 1, "b": 1}
        engines["a"].gate.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4, 5]
        assert max(engine.most for engine in engines.values()) == 1


async def test_waiting_for_room_has_no_deadline() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}, limit=1, patience=0.02) as pool:
        engine.gate = asyncio.Event()
        tasks = [asyncio.create_task(ask(pool)) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert pool.waiting == 1
        engine.gate.set()
        await asyncio.gather(*tasks)


async def test_who_is_cancelled_in_the_line_leaves_nothing_behind() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}, limit=1) as pool:
        engine.gate = asyncio.Event()
        first, second, third = [asyncio.create_task(ask(pool)) for _ in range(3)]
        await until(lambda: pool.waiting == 2)
        engine.gate.set()
        await first
        second.cancel()  # at the moment when it was given the place, and does not know yet
        await asyncio.wait([second])
        assert second.cancelled()
        await third
        assert (pool.waiting, pool.members["a"].running, pool.members["a"].running_tokens) == (0, 0, 0)


# Failures.


@pytest.mark.parametrize("error", [EngineGone("gone"), EngineUnavailable("503")])
async def test_what_was_not_begun_is_tried_on_another_engine(error: EngineUnavailable) -> None:
    engines = two()
    engines["a"].faults.append((0, error))
    async with started(engines) as pool:
        assert await ask(pool, request_id="r") == ["a", "b"]
        assert (engines["a"].requests, engines["b"].requests) == (["r"], ["r.1"])
        assert (pool.members["a"].failed, pool.members["a"].served) == (1, 0)
        assert (pool.members["b"].failed, pool.members["b"].served) == (0, 1)
        assert pool.members["a"].last_error == str(error)


async def test_an_engine_that_fails_when_it_is_called_leaves_nothing_behind() -> None:
    class ClosedEngine(FlakyEngine):
        def generate(self, *_: object, **__: object) -> AsyncGenerator[Chunk, None]:
            raise EngineUnavailable("it is not started")

    async with started({"a": ClosedEngine(), "b": FlakyEngine()}, limit=1) as pool:
        assert await ask(pool) == ["a", "b"]
        assert (pool.members["a"].running, pool.members["a"].failed, pool.members["a"].attempts) == (0, 1, set())


async def test_nothing_is_tried_again_after_a_token_was_seen() -> None:
    engines = two()
    engines["a"].faults.append((1, EngineUnavailable("broke off")))
    async with started(engines) as pool:
        tokens: list[int] = []
        with pytest.raises(EngineUnavailable, match="broke off"):
            await ask(pool, on_token=tokens.append)
        assert tokens == [0]
        assert engines["b"].requests == []


async def test_a_refusal_is_not_tried_elsewhere_and_says_nothing_of_health() -> None:
    engines = two()
    engines["a"].faults.extend([(0, EngineRefused("too long"))] * 2)
    async with started(engines) as pool:
        for _ in range(2):
            with pytest.raises(EngineRefused, match="too long"):
                await ask(pool)
        assert engines["b"].requests == []
        assert pool.members["a"].state is READY


async def test_each_engine_is_asked_once_while_one_of_them_serves() -> None:
    engines = two()
    for engine in engines.values():
        engine.faults.append((0, EngineUnavailable("overloaded")))
    async with started(engines) as pool:
        with pytest.raises(EngineUnavailable, match="overloaded"):
            await ask(pool)
        assert [len(engine.requests) for engine in engines.values()] == [1, 1]


async def test_nobody_listening_is_down_at_once_and_other_failures_the_second_time() -> None:
    engines = two()
    async with started(engines, probe_every=3600) as pool:
        engines["a"].faults.append((0, EngineUnavailable("503")))
        assert await ask(pool) == ["a", "b"]
        assert pool.members["a"].state is READY
        engines["a"].faults.append((0, EngineUnavailable("503")))
        engines["b"].faults.append((0, EngineGone("gone")))
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(ask(pool, prompt=1), 1)
        assert {name: member.state for name, member in pool.members.items()} == {"a": DOWN, "b": DOWN}


async def test_a_token_between_two_failures_starts_the_count_anew() -> None:
    engine = FlakyEngine()
    engine.faults.extend([(0, EngineUnavailable("503")), (3, EngineUnavailable("503")), (2, EngineUnavailable("x"))])
    async with started({"a": engine}, probe_every=3600) as pool:
        for _ in range(3):
            with pytest.raises(EngineUnavailable):
                await ask(pool)
        assert pool.members["a"].state is READY


async def test_an_engine_that_does_not_answer_probes_is_down_and_comes_back() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}) as pool:
        engine.healthy = False
        await until(lambda: pool.members["a"].state is DOWN)
        assert "did not answer a probe" in pool.members["a"].reason
        engine.healthy = True
        await pool.wait_ready()
        assert engine.starts >= 2
        await pool.check()


async def test_an_engine_that_samples_is_not_down_for_a_slow_probe() -> None:
    engine = FlakyEngine(tokens=400)
    async with started({"a": engine}) as pool:
        engine.delay = 0.002
        engine.healthy = False
        await ask(pool, max_tokens=400)
        assert engine.starts == 1
        await until(lambda: pool.members["a"].state is DOWN)


async def test_when_all_are_down_a_request_waits_for_the_first_that_returns() -> None:
    engines = two()
    async with started(engines) as pool:
        engines["a"].up = engines["b"].up = False
        task = asyncio.create_task(ask(pool))
        await until(lambda: pool.waiting == 1)
        engines["b"].up = True
        assert (await task)[-1] == "b"


async def test_when_none_returns_in_time_the_request_fails_and_says_why() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}, patience=0.05) as pool:
        engine.up = False
        with pytest.raises(EngineUnavailable, match=r"in time: a is down \(nobody listens\)") as caught:
            await ask(pool)
        assert isinstance(caught.value.__cause__, EngineGone)
        with pytest.raises(EngineUnavailable, match="no engine is ready: a is down"):
            await pool.check()
        assert (pool.waiting, pool.members["a"].running) == (0, 0)


async def test_an_engine_that_takes_requests_and_drops_them_does_not_hold_them_for_ever() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}, patience=0.1) as pool:
        engine.faults.extend((0, EngineGone("reset")) for _ in range(1000))
        with pytest.raises(EngineUnavailable, match=r"in time: a is down \(reset\)"):
            await asyncio.wait_for(ask(pool), 1)
        assert 2 <= len(engine.requests) <= 20


async def test_what_a_frozen_engine_holds_goes_elsewhere_unless_a_token_was_seen() -> None:
    engines = two()
    async with started(engines, silence=0.05) as pool:
        engines["a"].gate = asyncio.Event()
        engines["a"].gate.set()
        tokens: list[int] = []

        def take(token: int) -> None:
            tokens.append(token)
            engines["a"].gate = asyncio.Event()

        begun = asyncio.create_task(ask(pool, on_token=take))
        await until(lambda: tokens == [0])
        pool.members["b"].take(100_000)
        held = asyncio.create_task(ask(pool, "another"))
        await until(lambda: engines["a"].running == 2)
        pool.members["b"].release(100_000)
        engines["a"].healthy = False
        assert await asyncio.wait_for(held, 2) == ["a", "b"]
        with pytest.raises(EngineUnavailable, match="went down while it had the request: it did not answer a probe"):
            await begun
        assert tokens == [0]
        assert engines["a"].running == 0


async def test_another_server_in_its_place_stays_out() -> None:
    engines = two()
    async with started(engines) as pool:
        for info, reason in (
            (EngineInfo("flaky", "nowhere", "other", 4096), "serves the model 'other'"),
            (EngineInfo("flaky", "nowhere", "model", 1024), "1024 tokens of context, 4096 are promised"),
        ):
            engines["a"].up = False
            await until(lambda: pool.members["a"].state is DOWN)
            engines["a"].info = info
            engines["a"].up = True
            await until(lambda reason=reason: reason in pool.members["a"].reason)  # type: ignore[misc]
            assert pool.members["a"].state is DOWN
        engines["a"].info = EngineInfo("flaky", "nowhere", "model", 8192)
        await until(lambda: pool.members["a"].state is READY)


async def test_the_promised_context_follows_a_lone_engine() -> None:
    """Restarted with more context and then as before, it serves each time."""
    engine = FlakyEngine(info=EngineInfo("flaky", "nowhere", "model", 262_144))
    async with started({"a": engine}) as pool:
        for context in (300_000, 262_144, 1024):
            engine.up = False
            await until(lambda: pool.members["a"].state is DOWN)
            engine.info, engine.up = EngineInfo("flaky", "nowhere", "model", context), True
            await until(lambda: pool.members["a"].state is READY)
            assert pool.info.max_context == context


async def test_engines_that_are_restarted_one_after_the_other_with_less_context_all_come_back() -> None:
    engines = two()
    async with started(engines) as pool:
        for name in "ab":
            engines[name].up = False
            await until(lambda name=name: pool.members[name].state is DOWN)  # type: ignore[misc]
            engines[name].info, engines[name].up = EngineInfo("flaky", "nowhere", "model", 1024), True
            if name == "a":
                await until(lambda: "4096 are promised while others serve" in pool.members["a"].reason)
        await until(lambda: {member.state for member in pool.members.values()} == {READY})
        assert pool.info.max_context == 1024


async def test_probing_outlives_an_engine_with_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    class BuggyEngine(FlakyEngine):
        broken = False

        async def check(self) -> None:
            if self.broken:
                raise KeyError("data")

    engine = BuggyEngine()
    async with started({"a": engine}) as pool:
        engine.broken = True
        await until(lambda: pool.members["a"].state is DOWN)
        assert "KeyError" in pool.members["a"].reason
        assert "probing engine a failed" in caplog.messages
        engine.broken = False
        await until(lambda: pool.members["a"].state is READY)


# Coming and going.


async def test_an_added_engine_serves_and_takes_what_waits() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}, limit=1) as pool:
        engine.gate = asyncio.Event()
        running, waiting = [asyncio.create_task(ask(pool)) for _ in range(2)]
        await until(lambda: pool.waiting == 1)
        member = await pool.add("b", FlakyEngine())
        assert (member.state, member.limit, member.kind) == (READY, 1, "flaky")
        assert await waiting == ["b"]
        engine.gate.set()
        await running


async def test_an_engine_that_does_not_fit_is_refused_and_closed() -> None:
    async with started({"a": FlakyEngine()}) as pool:
        with pytest.raises(EngineRefused, match="there is an engine 'a' already"):
            await pool.add("a", FlakyEngine())
        other = FlakyEngine(info=EngineInfo("flaky", "nowhere", "other", 4096))
        with pytest.raises(EngineRefused, match="'other'"):
            await pool.add("b", other)
        dead = FlakyEngine()
        dead.up = False
        with pytest.raises(EngineGone):
            await pool.add("b", dead)
        assert other.is_closed
        assert dead.is_closed
        assert list(pool.members) == ["a"]


async def test_a_removed_engine_ends_what_it_runs_and_gets_nothing_new() -> None:
    engines = two()
    async with started(engines) as pool:
        engines["a"].gate = asyncio.Event()
        running = asyncio.create_task(ask(pool))
        await until(lambda: engines["a"].running == 1)
        removing = asyncio.create_task(pool.remove("a", drain_seconds=5))
        await until(lambda: pool.members["a"].state is MemberState.DRAINING)
        assert await ask(pool) == ["b"]
        with pytest.raises(EngineRefused, match="draining"):
            await pool.remove("a", drain_seconds=0)
        assert not removing.done()
        engines["a"].gate.set()
        assert await running == ["a"]
        await removing
        assert engines["a"].is_closed
        assert list(pool.members) == ["b"]
        with pytest.raises(EngineRefused, match="there is no engine 'a'; there are: b"):
            await pool.remove("a", drain_seconds=0)


async def test_draining_ends_when_its_time_is_over() -> None:
    engines = two()
    async with started(engines) as pool:
        engines["a"].gate = asyncio.Event()
        running = asyncio.create_task(ask(pool))
        await until(lambda: engines["a"].running == 1)
        await pool.remove("a", drain_seconds=0.02)
        assert engines["a"].is_closed
        assert list(pool.members) == ["b"]
        running.cancel()
        await asyncio.wait([running])


async def test_closing_fails_what_waits() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}, limit=1) as pool:
        engine.gate = asyncio.Event()
        running, waiting = [asyncio.create_task(ask(pool)) for _ in range(2)]
        await until(lambda: pool.waiting == 1)
        await pool.close()
        with pytest.raises(EngineUnavailable, match="being closed"):
            await waiting
        running.cancel()
        await asyncio.wait([running])


# Pausing.


async def test_every_engine_that_can_is_paused_and_each_says_what_became_of_it() -> None:
    plain = EngineInfo("flaky", "nowhere", "model", 4096)
    engines = {name: FlakyEngine(info=pausing(plain)) for name in "ac"} | {"b": FlakyEngine()}
    async with started(engines, probe_every=3600) as pool:
        engines["c"].up = False
        assert await pool.pause(PauseMode.KEEP) == {"a": "paused", "b": "cannot", "c": "nobody listens"}
        engines["c"].up = True
        assert await pool.resume() == {"a": "resumed", "b": "cannot", "c": "resumed"}
        assert engines["a"].orders == ["pause keep", "resume"]
        assert engines["b"].orders == []
