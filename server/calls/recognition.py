"""Conversations of agents that never send a session id, recognised by what was said.

An agent that can set nothing but its base URL still repeats its complete history with every request. The digest of a
conversation up to an answer leads back to the session that gave this answer.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

_Key: TypeAlias = tuple[bytes, bytes]


class Recognition:
    """Sessions by their conversations; only those of clients that send no id.

    Rollouts whose conversations are alike word for word, answers included, cannot be distinguished: each request goes
    to another one of them in turn.

    Args:
        most: turns that are remembered by their conversations; of the least recently used ones they are forgotten, one
            after the other, however many there are of a conversation.
    """

    def __init__(self, *, most: int = 100_000) -> None:
        self._most = most
        self._size = 0
        self._sessions: OrderedDict[_Key, list[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, client: bytes, digests: Sequence[bytes]) -> str | None:
        """Returns the session of the deepest conversation that a request continues.

        Args:
            client: what else clients are distinguished by, such as their API key.
            digests: of the request's messages, see ``context_digests``.
        """
        for digest in reversed(digests):
            key = (client, digest)
            sessions = self._sessions.get(key)
            if sessions:
                self._sessions.move_to_end(key)
                sessions.insert(0, found := sessions.pop())
                return found
        return None

    def remember(self, client: bytes, context_digest: bytes, session_id: str) -> None:
        """A turn of the session ended in this conversation."""
        key = (client, context_digest)
        self._sessions.setdefault(key, []).append(session_id)
        self._sessions.move_to_end(key)
        self._size += 1
        while self._size > self._most:
            oldest = next(iter(self._sessions))
            del self._sessions[oldest][0]
            self._size -= 1
            if not self._sessions[oldest]:
                del self._sessions[oldest]
