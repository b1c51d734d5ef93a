"""Weights: who has the expected ones, and which are newer."""

import asyncio

import pytest

from tests.clients.flaky_engine import FlakyEngine, ask, started, until
from tickertape.clients.engines.errors import EngineRefused, EngineUnavailable
from tickertape.clients.engines.pool import MemberState
from tickertape.clients.engines.pool.versions import VersionOrder

READY, DOWN, STALE = MemberState.READY, MemberState.DOWN, MemberState.STALE


async def test_who_reports_other_weights_is_stale_until_it_has_the_expected_ones() -> None:
    engines = {"a": FlakyEngine(version="1"), "b": FlakyEngine(version="2")}
    async with started(engines) as pool:
        assert {member.state for member in pool.members.values()} == {READY}
        pool.expect("2")
        assert (pool.members["a"].state, pool.members["b"].state) == (STALE, READY)
        assert pool.members["a"].reason == "it has weights of version '1', '2' is expected"
        assert await ask(pool) == ["b"]
        engines["a"].version = "2"
        await until(lambda: pool.members["a"].state is READY)
        pool.expect("3")
        pool.expect(None)
        assert {member.state for member in pool.members.values()} == {READY}


async def test_versions_are_asked_for_now() -> None:
    engine = FlakyEngine(version="1")
    async with started({"a": engine}, probe_every=3600) as pool:
        pool.expect("2")
        engine.version = "2"
        await pool.refresh()
        assert (pool.members["a"].state, pool.members["a"].version) == (READY, "2")


async def test_a_silent_engine_has_what_is_expected_but_not_after_it_was_down() -> None:
    engine = FlakyEngine()
    async with started({"a": engine}) as pool:
        pool.expect("5")
        assert (pool.members["a"].state, pool.members["a"].version) == (READY, "5")
        engine.up = False
        await until(lambda: pool.members["a"].state is DOWN)
        engine.up = True
        await until(lambda: pool.members["a"].state is STALE)
        assert "confirm it" in pool.members["a"].reason
        waiting = asyncio.create_task(ask(pool))
        await until(lambda: pool.waiting == 1)
        await pool.confirm("a", "5")
        assert pool.members["a"].state is READY
        assert await waiting == ["a"]


async def test_a_silent_engine_that_is_added_must_be_confirmed() -> None:
    async with started({"a": FlakyEngine()}) as pool:
        pool.expect("5")
        assert (await pool.add("b", FlakyEngine())).state is STALE
        pool.expect("6")
        assert pool.members["b"].state is STALE
        await pool.confirm("b", "5")
        assert pool.members["b"].reason == "it has weights of version '5', '6' is expected"
        await pool.confirm("b", "6")
        assert pool.members["b"].state is READY


async def test_what_an_engine_says_itself_cannot_be_confirmed_away() -> None:
    engine = FlakyEngine(version="1")
    async with started({"a": engine}) as pool:
        pool.expect("2")
        with pytest.raises(EngineRefused, match="says that its weights are '1'"):
            await pool.confirm("a", "2")
        assert pool.members["a"].state is STALE
        with pytest.raises(EngineRefused, match="there is no engine 'z'"):
            await pool.confirm("z", "2")
        engine.up = False
        await until(lambda: pool.members["a"].state is DOWN)
        with pytest.raises(EngineRefused, match="is down"):
            await pool.confirm("a", "2")


async def test_only_weights_that_are_new_enough_serve_who_asks_for_them() -> None:
    engines = {"a": FlakyEngine(version="9"), "b": FlakyEngine(version="10")}
    async with started(engines) as pool:
        for number in range(6):
            assert await ask(pool, f"s{number}", min_version="10") == ["b"]
        assert {(await ask(pool, f"t{number}", min_version="9"))[0] for number in range(6)} == {"a", "b"}
        waiting = asyncio.create_task(ask(pool, min_version="11"))
        await until(lambda: pool.waiting == 1)
        engines["a"].version = "11"
        assert await waiting == ["a"]


async def test_weights_that_do_not_come_in_time_are_named() -> None:
    async with started({"a": FlakyEngine(version="9")}, patience=0.03) as pool:
        with pytest.raises(EngineUnavailable, match="weights of version '10' or newer are asked for"):
            await ask(pool, min_version="10")


async def test_versions_that_come_with_tokens_are_known_where_the_engine_cannot_be_asked() -> None:
    engine = FlakyEngine()
    engine._version = "7"
    async with started({"a": engine}, patience=0.03) as pool:
        with pytest.raises(EngineUnavailable):
            await ask(pool, min_version="7")
        await ask(pool)
        assert pool.members["a"].version == "7"
        assert await ask(pool, min_version="7") == ["a"]


def test_numbers_compare_as_numbers_and_names_by_when_they_were_noted() -> None:
    order = VersionOrder()
    assert order.at_least("10", "9")
    assert order.at_least("1.5", "1")
    assert not order.at_least("9", "10")
    assert not order.at_least(None, "1")
    assert order.at_least("unheard-of", "unheard-of")
    assert not order.at_least("warmup", "final")
    for name in ("warmup", "final", "warmup"):
        order.note(name)
    assert order.at_least("final", "warmup")
    assert not order.at_least("warmup", "final")
    assert not order.at_least("final", "unheard-of")
    assert not order.at_least("unheard-of", "final")
