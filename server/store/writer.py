"""Group commit: many turns in one transaction, on a thread of its own.

Each turn waits for one commit at most: while a transaction runs, those that arrive gather for the next.

While the store fails, what waits is tried again, at first at once, then twice a second. An item that has waited for
longer than the patience is given up: its caller gets an error, and it is kept in a backlog, which is written as soon as
the store works again. The store is said to work again when nothing is left of the backlog.

What waits is counted in bytes: :attr:`GroupWriter.waiting_bytes`. Nothing that was given is refused for its size, since
it has cost its sampling already; whoever gives something looks before it costs anything.
"""

import asyncio
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeAlias, TypeVar

from tickertape.server.store.backlog import Backlog
from tickertape.server.store.database import StoreUnavailable
from tickertape.server.store.tape_health import TapeHealth

ItemT = TypeVar("ItemT")

#: Seconds between two tries while the store fails: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
#: Seconds beyond the patience after which a caller hears that its write has not come back.
STALLED = 5.0


class Writes(Protocol[ItemT]):
    """The operations that a writer works with. Every method is called on its thread."""

    def write(self, items: Sequence[ItemT], *, again: bool) -> None:
        """Commits a batch durably, or raises: ``StoreUnavailable`` if it may be possible later. ``again``: it may be
        there already, since an earlier try failed at a point that is not known."""

    def probe(self) -> None:
        """Writes something that is not missed, or raises."""

    def given_up(self, item: ItemT, reason: str) -> ItemT:
        """Returns what is to be committed in the place of an item whose caller heard that it is not."""

    def lost(self, item: ItemT, error: Exception) -> None:
        """It can never be committed, or there is no more time for it, and no caller waits for it. Does not raise."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[ItemT]):
    item: ItemT
    size: int
    done: "asyncio.Future[None]"
    until: float
    tried: bool = False


class _Signal(Enum):
    PROBE = "somebody else's write failed: find out"
    END = "nothing comes any more"


_Arrival: TypeAlias = "_Waiting[ItemT] | _Signal"


class GroupWriter(Generic[ItemT]):
    """Hands what is given to it to ``writes``, in batches and in order.

    Args:
        writes: see :class:`Writes`.
        standing: learns how the store stands.
        patience: seconds for which an item is tried again.
        most: items of the largest batch.
        most_bytes: their bytes, unless one alone has more.
        every: seconds between two probes, which find out before anybody has to ask.
    """

    def __init__(
        self,
        writes: Writes[ItemT],
        standing: TapeHealth,
        *,
        patience: float = 10.0,
        most: int = 256,
        most_bytes: int = 8 * 2**20,
        every: float = 10.0,
    ) -> None:
        self._writes = writes
        self._standing = standing
        self._patience = patience
        self._most = most
        self._most_bytes = most_bytes
        self._every = every
        self._queue: queue.SimpleQueue[_Arrival[ItemT]] = queue.SimpleQueue()
        self._waiting: deque[_Waiting[ItemT]] = deque()
        self._backlog: Backlog[ItemT] = Backlog()
        self._given_bytes = 0  # counted by who gives
        self._settled_bytes = 0  # counted on the thread
        self._ended = False
        self._pause = _FIRST_PAUSE
        self._next_try = 0.0
        self._next_probe = time.monotonic() + every
        self._caught_up = 0
        self._thread = threading.Thread(target=self._run, name="tape-writer", daemon=True)
        self._thread.start()

    async def put(self, item: ItemT, size: int = 0) -> None:
        """Returns when ``item``, of about ``size`` bytes, is committed.

        Raises:
            StoreUnavailable: the store failed for longer than the patience; the item is in the backlog.
            Exception: what ``write`` raised of this item.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given_bytes += size
        self._queue.put(_Waiting(item, size, done, time.monotonic() + self._patience))
        most = self._patience + STALLED
        # Neither a caller that is cancelled nor one that gives up takes back its item: it is in the queue.
        await asyncio.wait((done,), timeout=most)
        if not done.done():
            error = StoreUnavailable(f"the store has not answered a write for {most:g} s")
            self._standing.failed(error)
            raise error
        done.result()

    @property
    def backlog(self) -> int:
        """Returns how many items wait for a store that works again."""
        return len(self._backlog)

    @property
    def waiting_bytes(self) -> int:
        """Of what was given and is not committed yet, the backlog included."""
        return self._given_bytes - self._settled_bytes

    def suspect(self) -> None:
        """The write of another has failed: probe the store now."""
        self._queue.put(_Signal.PROBE)

    def close(self) -> None:
        """Commits what is queued, tries the backlog a last time, gives up what is left of it, and ends the thread."""
        self._queue.put(_Signal.END)
        self._thread.join()

    # On the thread.

    def _run(self) -> None:
        while not self._ended:
            self._gather()
            now = time.monotonic()
            if self._standing.failing:
                self._give_up(now)
                if now >= self._next_try:
                    self._try_again()
            elif now >= self._next_probe:
                self._probe()
            elif self._waiting:
                self._write_waiting()
        self._end()

    def _gather(self) -> None:
        """Takes what has arrived; waits for something if there is nothing to do."""
        arrived: _Arrival[ItemT] | None = None
        if self._standing.failing or not self._waiting:
            arrived = self._next(max(0.0, self._wake_at() - time.monotonic()))
        while arrived is not None:
            if arrived is _Signal.END:
                self._ended = True
            elif arrived is _Signal.PROBE:
                self._next_probe = 0.0
            elif isinstance(arrived, _Waiting):
                self._waiting.append(arrived)
            arrived = self._next(0.0)

    def _next(self, timeout: float) -> "_Arrival[ItemT] | None":
        try:
            return self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except queue.Empty:
            return None

    def _wake_at(self) -> float:
        if not self._standing.failing:
            return self._next_probe
        return min(self._next_try, self._waiting[0].until) if self._waiting else self._next_try

    def _write_waiting(self) -> bool:
        """Writes one batch of what has callers; whether the store works."""
        batch: list[_Waiting[ItemT]] = []
        size = 0
        while self._waiting and len(batch) < self._most:
            size += self._waiting[0].size
            if batch and size > self._most_bytes:
                break
            batch.append(self._waiting.popleft())
        left = self._write(batch)
        for waiting in left:
            waiting.tried = True
        self._waiting.extendleft(reversed(left))
        return not left

    def _write(self, batch: list[_Waiting[ItemT]]) -> list[_Waiting[ItemT]]:
        """Writes a batch and tells the callers; returns those that the store could not take."""
        try:
            self._writes.write([each.item for each in batch], again=any(each.tried for each in batch))
        except StoreUnavailable as error:
            self._failed(error)
            return batch
        except Exception as error:  # noqa: BLE001  (handed to its waiter, who raises it)
            if len(batch) == 1:
                self._settle(batch, error)
                return []
            for number, waiting in enumerate(batch):  # one that cannot be written must not take the others with it
                if self._write([waiting]):
                    return batch[number:]
            return []
        self._settle(batch, None)
        return []

    def _settle(self, batch: Sequence[_Waiting[ItemT]], error: Exception | None) -> None:
        self._settled_bytes += sum(each.size for each in batch)
        self._tell(batch, error)

    def _tell(self, batch: Sequence[_Waiting[ItemT]], error: Exception | None) -> None:
        loop = batch[0].done.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, [each.done for each in batch], error)

    def _probe(self) -> None:
        self._next_probe = time.monotonic() + self._every
        self._works()

    def _works(self) -> bool:
        try:
            self._writes.probe()
        except Exception as error:  # noqa: BLE001  (whatever it is, the tape cannot be written; ``standing`` reports it)
            self._failed(error)
            return False
        return True

    # While the store fails.

    def _failed(self, error: Exception) -> None:
        if not self._standing.failing:
            self._pause = _FIRST_PAUSE
        self._standing.failed(error)
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _give_up(self, now: float) -> None:
        """Tells those who have waited for long enough, and keeps what they wanted to write."""
        error = StoreUnavailable(f"{self._standing.reason} (tried for {self._patience:g} s)")
        while self._waiting and self._waiting[0].until <= now:
            waiting = self._waiting.popleft()
            item = self._writes.given_up(waiting.item, str(error))
            self._backlog.add(item, waiting.size)
            self._tell([waiting], error)

    def _try_again(self) -> None:
        """First what has callers, then the backlog; the store works when both were written."""
        if self._waiting and not self._write_waiting():
            return
        if len(self._backlog) and not self._write_backlog():
            return
        if self._waiting or len(self._backlog):
            self._next_try = 0.0  # there is more, and no reason to pause
            return
        if self._works():
            self._standing.works(self._caught_up)
            self._caught_up = 0

    def _write_backlog(self) -> bool:
        """Writes the oldest of the backlog; whether the store works."""
        items = self._backlog.first(self._most, self._most_bytes)
        try:
            self._writes.write(items, again=True)
        except StoreUnavailable as error:
            self._failed(error)
            return False
        except Exception as error:  # noqa: BLE001  (reported by ``lost``)
            if len(items) > 1:
                return self._write_backlog_singly(len(items))
            self._writes.lost(items[0], error)
        self._settled_bytes += self._backlog.drop(len(items))
        self._caught_up += len(items)
        return True

    def _write_backlog_singly(self, count: int) -> bool:
        for item in self._backlog.first(count, self._most_bytes):
            try:
                self._writes.write([item], again=True)
            except StoreUnavailable as error:
                self._failed(error)
                return False
            except Exception as error:  # noqa: BLE001  (reported by ``lost``)
                self._writes.lost(item, error)
                self._caught_up -= 1
            self._settled_bytes += self._backlog.drop(1)
            self._caught_up += 1
        return True

    def _end(self) -> None:
        """The last try; no caller waits for another one."""
        while self._waiting and self._write_waiting():
            pass
        self._patience = 0.0
        for waiting in self._waiting:
            waiting.until = 0.0
        self._give_up(time.monotonic())
        while len(self._backlog) and self._write_backlog():
            pass
        reason = StoreUnavailable(f"the server was stopped while {self._standing.reason}")
        for item in self._backlog.first(len(self._backlog), sys.maxsize):
            self._writes.lost(item, reason)


def _finish(waiting: list["asyncio.Future[None]"], error: Exception | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
