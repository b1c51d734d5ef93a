"""Which turn a request continues, found in message space.

A request carries its whole history. Each message is brought to a canonical form, in which what clients are known to
change on the way (null or empty content, text or text parts, re-serialised tool arguments, dropped reasoning, call ids)
makes no difference, and a chain of digests runs over them: looking up the deepest known prefix costs one dictionary
access for each message.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from tickertape.renderers.messages import Message
from tickertape.server.trajectories.tree import Node, SessionTree

_DIGEST_BYTES = 16


def context_digests(messages: Sequence[Message], after: bytes = b"") -> list[bytes]:
    """For each message, the digest of the conversation up to and including it, ``after`` an earlier digest."""
    digests = []
    for message in messages:
        after = hashlib.sha256(after + canonical(message)).digest()[:_DIGEST_BYTES]
        digests.append(after)
    return digests


def value_digest(value: Any) -> str:
    """Digest of a JSON value such as the list of tools; empty for nothing."""
    if not value:
        return ""
    return hashlib.sha256(orjson.dumps(value)).hexdigest()[: 2 * _DIGEST_BYTES]


def canonical(message: Message) -> bytes:
    """What of a message counts when histories are compared."""
    calls = [[call.name, _canonical_arguments(call.arguments)] for call in message.tool_calls]
    return orjson.dumps([message.role, message.content or "", calls, message.name])


def _canonical_arguments(arguments: Any) -> str:
    """Arguments by value. Text that is neither JSON nor a Python literal (some clients print ``{'x': False}``) counts
    as it stands."""
    value = arguments
    if isinstance(arguments, str):
        try:
            value = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            try:
                value = ast.literal_eval(arguments)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return arguments
    try:
        return json.dumps(_whole_numbers(value), sort_keys=True)
    except (TypeError, ValueError, RecursionError):  # a literal that JSON cannot hold
        return str(arguments)


def _whole_numbers(value: Any) -> Any:
    """``1.0`` as ``1``: JavaScript does not tell them apart."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(item) for item in value]
    return value


def matches(tree: SessionTree, digests: Sequence[bytes]) -> Iterator[tuple[Node, int]]:
    """Turns that a request continues, with the number of its messages that they cover: the deepest first, the latest
    first among equals. Turns that cover everything are no candidates: there would be nothing to answer."""
    for covered in range(len(digests) - 1, 0, -1):
        for node in reversed(tree.ending_with(digests[covered - 1])):
            yield node, covered
