"""Which engine gets a request: the one that has its prefix cached, unless another has much less to do.

1. The session's last engine.
2. For a session that has none: the engine that last got the longest known prefix of the prompt, in blocks of 256
   tokens. So rollouts of one task go where their common prompt is.
3. The engine with the fewest tokens running; among equals, the one whose last request is longest ago.

The first two hold only while that engine is not *overloaded*: its running tokens are not above 1.5 times the least
loaded one's plus 8,192. Prefilling a prompt anew costs less than waiting after others there.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from tickertape.clients.engines.engine import TokenIds
from tickertape.clients.engines.pool.member import Member
from tickertape.clients.engines.pool.request import EngineRequest

BLOCK = 256
#: Blocks of a prompt that are looked at: 16,384 tokens tell tasks apart.
_BLOCKS = 64
_REMEMBERED = 65_536

KeyT = TypeVar("KeyT")


class Router:
    """Remembers who got what. Only a hint: what it remembers wrongly costs a prefill."""

    def __init__(self) -> None:
        self._homes: _Recent[str] = _Recent()
        self._prefixes: _Recent[int] = _Recent()
        self._turn = 0

    def choose(self, candidates: Sequence[Member], request: EngineRequest, *, alone: bool) -> Member:
        """The one of ``candidates``, at least one, that gets the request; ``alone``: the pool has no other engine."""
        home = candidates[0] if alone else self._choose(candidates, request)
        self._homes.put(request.session_id, home)
        self._turn += 1
        home.turn = self._turn
        return home

    def _choose(self, candidates: Sequence[Member], request: EngineRequest) -> Member:
        least = min(candidates, key=_load)
        home = self._homes.get(request.session_id)
        if home is not None and home in candidates and not _overloaded(home, least):
            return home
        blocks = list(_blocks(request.prompt_ids, request.sampling.adapter))
        known = (found for key in reversed(blocks) if (found := self._prefixes.get(key)) and found in candidates)
        home = next(known, least)
        if _overloaded(home, least):
            home = least
        for key in blocks:
            self._prefixes.put(key, home)
        return home

    def forget(self, member: Member) -> None:
        """It is gone for good."""
        self._homes.drop(member)
        self._prefixes.drop(member)


def _load(member: Member) -> tuple[int, int, int]:
    return member.running_tokens, member.running, member.turn


def _overloaded(member: Member, least: Member) -> bool:
    return member.running_tokens > 1.5 * least.running_tokens + 8192


def _blocks(prompt_ids: TokenIds, adapter: str | None) -> Iterator[int]:
    """A key for the prompt up to the end of each of its first blocks."""
    number = min(len(prompt_ids) // BLOCK, _BLOCKS)
    data, width = prompt_ids[: number * BLOCK].tobytes(), BLOCK * prompt_ids.itemsize
    key = hash(adapter)
    for start in range(0, len(data), width):
        key = hash((key, data[start : start + width]))
        yield key


class _Recent(Generic[KeyT]):
    """A map that forgets what was not used for longest."""

    def __init__(self) -> None:
        self._members: OrderedDict[KeyT, Member] = OrderedDict()

    def get(self, key: KeyT) -> Member | None:
        found = self._members.get(key)
        if found is not None:
            self._members.move_to_end(key)
        return found

    def put(self, key: KeyT, member: Member) -> None:
        self._members[key] = member
        self._members.move_to_end(key)
        if len(self._members) > _REMEMBERED:
            self._members.popitem(last=False)

    def drop(self, member: Member) -> None:
        for key in [key for key, held in self._members.items() if held is member]:
            del self._members[key]
