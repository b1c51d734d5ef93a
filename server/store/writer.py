"""Group commit: many turns in one transaction, on a thread of its own.

Each turn waits for one commit at most: while a transaction runs, those that arrive gather for the next.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

ItemT = TypeVar("ItemT")
_Waiting: TypeAlias = tuple[ItemT, "asyncio.Future[None]"]


class GroupWriter(Generic[ItemT]):
    """Hands what is given to it to ``write``, in batches and in order.

    Args:
        write: commits a batch durably or raises; called on the writer's thread.
        most: the largest batch.
    """

    def __init__(self, write: Callable[[Sequence[ItemT]], None], *, most: int = 256) -> None:
        self._write = write
        self._most = most
        self._queue: queue.SimpleQueue[_Waiting[ItemT] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tape-writer", daemon=True)
        self._thread.start()

    async def put(self, item: ItemT) -> None:
        """Returns when ``item`` is committed; raises what its batch's ``write`` raised."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((item, done))
        # A cancelled caller must not cancel the commit: the item is in the queue.
        await asyncio.shield(done)

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            ended = False
            while len(batch) < self._most:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ended = True
                    break
                batch.append(more)
            self._commit(batch)
            if ended:
                return

    def _commit(self, batch: list[_Waiting[ItemT]]) -> None:
        error: Exception | None = None
        try:
            self._write([item for item, _ in batch])
        except Exception as caught:  # noqa: BLE001  (handed to its waiter, who raises it)
            if len(batch) > 1:  # one item that cannot be written must not take the others with it
                for waiting in batch:
                    self._commit([waiting])
                return
            error = caught
        loop = batch[0][1].get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, [done for _, done in batch], error)


def _settle(waiting: list["asyncio.Future[None]"], error: Exception | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
