"""DURABLE, the writer alone: bounded batches, patience, the backlog and its order. The store behind it is a fake."""

import asyncio
import time

import pytest

from tests.server.conftest import until
from tests.server.failing_stores import FakeWrites
from tickertape.server.store.database import StoreUnavailable
from tickertape.server.store.tape_health import TapeHealth
from tickertape.server.store.writer import GroupWriter


@pytest.fixture
def writes() -> FakeWrites:
    return FakeWrites()


async def test_batch_is_bounded_in_rows_and_in_bytes(writes: FakeWrites) -> None:
    standing = TapeHealth()
    writes.fail()
    writer = GroupWriter(writes, standing, most=4, most_bytes=100)
    first = [asyncio.ensure_future(writer.put(n, 10)) for n in range(10)]
    large = [asyncio.ensure_future(writer.put(n, 60)) for n in (10, 11)]
    huge = asyncio.ensure_future(writer.put(12, 1000))
    await asyncio.sleep(0.05)
    writes.failing = None
    await asyncio.gather(*first, *large, huge)
    writer.close()
    assert writes.written == list(range(13))
    assert max(writes.batches) <= 4
    assert writes.batches[-2:] == [1, 1]  # two of 60 do not fit into 100; one of 1,000 goes alone


async def test_write_is_tried_again_until_the_store_works(writes: FakeWrites) -> None:
    standing = TapeHealth()
    writer = GroupWriter(writes, standing, patience=5)
    writes.fail()
    putting = asyncio.ensure_future(writer.put(1))
    await asyncio.sleep(0.3)
    assert standing.reason == "the disk is full"
    with pytest.raises(StoreUnavailable):
        standing.check()
    writes.failing = None
    await asyncio.wait_for(putting, 1)
    writer.close()
    assert writes.written == [1]
    assert not writes.given


async def test_caller_is_told_when_the_patience_is_over_and_its_item_is_written_later(writes: FakeWrites) -> None:
    standing = TapeHealth()
    writer = GroupWriter(writes, standing, patience=0.2)
    writes.fail()
    started = time.monotonic()
    results = await asyncio.gather(*(writer.put(n) for n in range(5)), return_exceptions=True)
    assert 0.2 <= time.monotonic() - started < 1
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert writer.backlog == 5
    writes.failing = None
    freed = time.monotonic()
    await asyncio.to_thread(until, lambda: not standing.failing)
    assert time.monotonic() - freed < 1
    assert writes.written == list(range(5)), "in the order in which they came"
    writer.close()


async def test_store_works_again_only_when_the_backlog_is_written(writes: FakeWrites) -> None:
    standing = TapeHealth()
    writer = GroupWriter(writes, standing, patience=0, most=1)
    writes.fail()
    await asyncio.gather(*(writer.put(n) for n in range(3)), return_exceptions=True)
    seen: list[tuple[int, bool]] = []
    written = writes.write

    def watching(items: list[int], *, again: bool) -> None:
        written(items, again=again)
        seen.append((len(writes.written), standing.failing))

    writes.write = watching  # type: ignore[assignment,method-assign]
    writes.failing = None
    await asyncio.to_thread(until, lambda: not standing.failing)
    writer.close()
    assert seen == [(1, True), (2, True), (3, True)]


async def test_what_waits_is_counted_until_it_is_written_or_lost(writes: FakeWrites) -> None:
    writer = GroupWriter(writes, TapeHealth(), patience=0)
    await writer.put(9, 40)
    assert writer.waiting_bytes == 0
    writes.fail()
    await asyncio.gather(*(writer.put(n, 40) for n in range(5)), return_exceptions=True)
    assert writer.waiting_bytes == 200, "given up, and kept"
    writes.poison = {1}
    writes.failing = None
    writer.close()
    assert (writes.written, writes.dropped) == ([9, 0, 2, 3, 4], [1])
    assert writer.waiting_bytes == 0


async def test_item_that_can_never_be_written_does_not_hold_up_the_backlog(writes: FakeWrites) -> None:
    writer = GroupWriter(writes, TapeHealth(), patience=0)
    writes.fail()
    await asyncio.gather(*(writer.put(n) for n in range(4)), return_exceptions=True)
    writes.poison = {1}
    writes.failing = None
    writer.close()
    assert writes.written == [0, 2, 3]
    assert writes.dropped == [1]


async def test_close_tries_once_more_and_says_what_is_lost(writes: FakeWrites) -> None:
    writer = GroupWriter(writes, TapeHealth(), patience=60)
    writes.fail()
    putting = [asyncio.ensure_future(writer.put(n)) for n in range(3)]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await asyncio.to_thread(writer.close)
    assert time.monotonic() - started < 1
    results = await asyncio.gather(*putting, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert writes.dropped == [0, 1, 2]


async def test_idle_store_is_probed(writes: FakeWrites) -> None:
    standing = TapeHealth()
    writer = GroupWriter(writes, standing, every=0.1)
    writes.fail()
    await asyncio.to_thread(until, lambda: standing.failing, 2)
    writes.failing = None
    await asyncio.to_thread(until, lambda: not standing.failing, 2)
    writer.close()


async def test_write_that_hangs_is_told_and_not_taken_back(writes: FakeWrites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tickertape.server.store.writer.STALLED", 0.1)
    standing = TapeHealth()
    written = writes.write

    def hanging(items: list[int], *, again: bool) -> None:
        time.sleep(0.8)
        written(items, again=again)

    writes.write = hanging  # type: ignore[assignment,method-assign]
    writer = GroupWriter(writes, standing, patience=0.1)
    with pytest.raises(StoreUnavailable, match="has not answered"):
        await writer.put(1)
    assert standing.failing
    await asyncio.to_thread(until, lambda: writes.written == [1] and not standing.failing, 3)
    writer.close()
