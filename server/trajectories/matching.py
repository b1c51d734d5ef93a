"""Which turn a request continues, found in message space.

A request carries its complete history. A policy (:mod:`~tickertape.server.trajectories.normalising`) says what of each
message counts, and a chain of digests runs over that: looking up the deepest known prefix costs one dictionary access
for each message, however many turns a session has.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from tickertape.renderers.messages import Message
from tickertape.server.trajectories.normalising import MatchPolicy, default
from tickertape.server.trajectories.tree import Node, SessionTree
from tickertape.server.trajectories.turn import TokenIds

_DIGEST_BYTES = 16


def context_digests(
    messages: Sequence[Message], policy: MatchPolicy = default, *, after: bytes = b"", first: int = 0
) -> list[bytes]:
    """For each message, the digest of the conversation up to and including it.

    Args:
        messages: the messages; one that does not count leaves the digest as it was.
        policy: what of them counts.
        after: digest of the conversation before them.
        first: index of the first of them.
    """
    digests = []
    for index, message in enumerate(messages, first):
        counted = canonical(message, policy, index)
        if counted is not None:
            after = hashlib.sha256(after + counted).digest()[:_DIGEST_BYTES]
        digests.append(after)
    return digests


def token_digest(*parts: TokenIds) -> bytes:
    """Digest of a context that is given as tokens."""
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()[:_DIGEST_BYTES]


def value_digest(value: Any) -> str:
    """Digest of a JSON value such as the list of tools; empty for nothing."""
    if not value:
        return ""
    return hashlib.sha256(orjson.dumps(value)).hexdigest()[: 2 * _DIGEST_BYTES]


def canonical(message: Message, policy: MatchPolicy = default, index: int = 0) -> bytes | None:
    """Returns what of a message counts when histories are compared, as bytes; ``None`` where nothing does."""
    kept = policy(message, index)
    if kept is None:
        return None
    calls = [[call.name, call.arguments_json, call.id] for call in kept.tool_calls]
    return orjson.dumps([kept.role, kept.content or "", kept.reasoning or "", calls, kept.tool_call_id, kept.name])


def matches(tree: SessionTree, digests: Sequence[bytes]) -> Iterator[tuple[Node, int]]:
    """Turns that a request continues, with the number of its messages that they cover: the deepest first, the latest
    first among equals. Messages that do not count are new ones after a turn. Turns that cover everything are no
    candidates: there would be nothing to answer."""
    for covered in range(len(digests) - 1, 0, -1):
        if covered > 1 and digests[covered - 2] == digests[covered - 1]:
            continue
        for node in reversed(tree.ending_with(digests[covered - 1])):
            yield node, covered
