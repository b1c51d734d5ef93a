"""Live sessions: trees kept in memory, the least recently used ones let go.

Nothing is lost by letting go: a session's tree is read back from the tape when its next request comes.
"""

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from tickertape.server.store.store import SessionDeleted, Store
from tickertape.server.trajectories.tree import SessionTree


class Sessions:
    """Trees by session id.

    Args:
        store: the tape.
        most: how many trees are kept without a request that uses them.
    """

    def __init__(self, store: Store, *, most: int = 20_000) -> None:
        self._store = store
        self._most = most
        self._recent: OrderedDict[str, SessionTree] = OrderedDict()
        # Trees in use by a running request are found here even after they were let go, so that two never diverge.
        self._alive: WeakValueDictionary[str, SessionTree] = WeakValueDictionary()
        self._loading: dict[str, asyncio.Task[SessionTree]] = {}

    def __len__(self) -> int:
        return len(self._alive)

    def create(self, session_id: str) -> SessionTree:
        """The tree of a session that is known to be new."""
        return self._keep(SessionTree(session_id))

    async def get(self, session_id: str) -> SessionTree:
        """The session's tree, from the tape if need be; an empty one for a new session. Where other servers write the
        same tape, it has what they committed up to now.

        Raises:
            StoreError: the tape cannot be read.
        """
        tree = self._alive.get(session_id)
        if tree is not None and self._store.is_shared:
            tree = await self._caught_up(tree)
        if tree is not None:
            return self._keep(tree)
        loading = self._loading.get(session_id)
        began_before = loading is not None
        if loading is None:
            loading = self._loading[session_id] = asyncio.create_task(self._store.load_tree(session_id))
            loading.add_done_callback(lambda _: self._loading.pop(session_id, None))
        tree = await asyncio.shield(loading)
        # Between the end of loading and here another request may have begun to load, and kept its tree. (An empty tree
        # is false.)
        kept = self._alive.get(session_id)
        tree = self._keep(tree if kept is None else kept)
        # What was read for an earlier request may lack what another server has committed since, before this one came.
        return await self.get(session_id) if began_before and self._store.is_shared else tree

    async def _caught_up(self, tree: SessionTree) -> SessionTree | None:
        """The tree with what others committed; ``None`` if its session was deleted, so that it is another one now."""
        try:
            for turn, options_digest in await self._store.news(tree.session_id, tree.complete_to - 1):
                tree.add(turn, options_digest)
        except SessionDeleted:
            self.forget(tree.session_id)
            return None
        return tree

    def live(self) -> list[SessionTree]:
        """The trees that are in memory."""
        return list(self._alive.values())

    def is_running(self, turn_id: str) -> bool:
        """Returns True if the turn is being sampled here."""
        return any(tree.has_begun(turn_id) for tree in self._alive.values())

    def forget(self, session_id: str) -> None:
        """Lets go of a session that was taken off the tape."""
        self._recent.pop(session_id, None)
        self._alive.pop(session_id, None)

    def _keep(self, tree: SessionTree) -> SessionTree:
        self._alive[tree.session_id] = tree
        self._recent[tree.session_id] = tree
        self._recent.move_to_end(tree.session_id)
        while len(self._recent) > self._most:
            self._recent.popitem(last=False)
        return tree
