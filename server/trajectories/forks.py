"""The reason why a turn does not simply extend the newest one: its ``fork_reason``.

The reason is found before the turn is sampled, from digests alone; it labels the tape and decides nothing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tickertape.renderers.messages import Message
from tickertape.server.trajectories.matching import canonical
from tickertape.server.trajectories.normalising import (
    MatchPolicy,
    arguments_by_value,
    strict,
    without_call_ids,
    without_reasoning,
)
from tickertape.server.trajectories.tree import Node, SessionTree
from tickertape.server.trajectories.turn import TokenIds

SIBLING = "sibling"
"""An earlier turn is extended a second time, by other messages: parallel calls, or a branch."""
RESAMPLED = "resampled"
"""The same messages are asked a second time."""
N = "n"
"""One of several choices of one request, but the first."""
EDITED = "edited"
"""The request holds an answer of this session where it stood, after other messages than it was given to."""
COMPACTED = "compacted"
"""An answer of this session stands nearer to the beginning than it did, or its longest line is quoted elsewhere."""
MADE_UP_ANSWER = "made_up_answer"
"""An assistant message stands where the model answered something else, or after an extended turn."""
OTHER_CONVERSATION = "other_conversation"
"""The messages share nothing with the session's turns: a sub-agent, another system prompt."""
TOOLS_CHANGED = "tools_changed"
TEMPLATE_OPTIONS_CHANGED = "template_options_changed"
"""The history was rendered with other ones."""
NO_BRIDGE = "no_bridge: "
"""That the template extends its own history could not be proven; the rest says where it differs."""
HISTORY_TEMPLATE = "history_template"
"""With ``--history template``: the template renders the history otherwise than the model read and wrote it."""

#: A line shorter than this is no sign that a message quotes an answer.
_SHORTEST_LINE = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's messages, and how they are compared."""

    messages: Sequence[Message]
    digests: Sequence[bytes]
    """Of the conversation up to and including each message."""
    policy: MatchPolicy
    prompt_ids: TokenIds | None = None
    """int32[]: the prompt, of a request without messages; its digest is the only one then."""


def fork_reason(tree: SessionTree, asked: Asked, parent: Node | None, covered: int) -> str | None:
    """Finds why the turn is a fork; ``None`` if it is none: the session's first one, or the first below its parent.

    Args:
        tree: the session's turns, this one not begun.
        asked: the request.
        parent: the turn that is extended.
        covered: how many of the messages it covers.
    """
    if (tree.root_extensions if parent is None else parent.extensions) == 0:
        return None
    if tree.was_asked(asked.digests[-1]):
        return RESAMPLED
    rewritten = _rewritten(tree, asked, covered)
    if rewritten is not None and (parent is not None or rewritten != MADE_UP_ANSWER or _replaces(tree, asked)):
        return rewritten
    if parent is not None:
        return SIBLING
    quotes = any(tree.has_line(line) for message in asked.messages for line in _line_digests(message.text))
    return COMPACTED if quotes else OTHER_CONVERSATION


def _rewritten(tree: SessionTree, asked: Asked, covered: int) -> str | None:
    """Returns the reason that the assistant messages after the parent give."""
    found = []
    for index in range(covered, len(asked.messages)):
        if asked.messages[index].role == "assistant":
            depth = tree.depth_of_answer(answer_digest(asked.messages[index], asked.policy, index))
            found.append(MADE_UP_ANSWER if depth is None else COMPACTED if index < depth else EDITED)
    return COMPACTED if COMPACTED in found else next(iter(found), None)


def _replaces(tree: SessionTree, asked: Asked) -> bool:
    """Returns True if an assistant message answers what the model was asked."""
    pairs = zip(asked.digests, asked.messages[1:], strict=False)
    return any(message.role == "assistant" and tree.was_asked(digest) for digest, message in pairs)


def answer_digest(message: Message, policy: MatchPolicy, index: int) -> str:
    """Of an answer alone, whatever it answers."""
    return hashlib.sha256(canonical(message, policy, index) or b"").hexdigest()[:16]


def told_digest(message: Message) -> str:
    """Returns the digest of an answer as the client got it or sent it back, but for its reasoning, its call ids and how
    arguments are written: what ``default`` matching makes no difference of shows in it."""
    return answer_digest(arguments_by_value(without_call_ids(without_reasoning(message))), strict, 0)


def longest_line_digest(text: str) -> str:
    """By which a summary is recognised when a compacted history quotes it; empty if every line is short."""
    line = max((line.strip() for line in text.splitlines()), key=len, default="")
    return _line_digest(line) if len(line) >= _SHORTEST_LINE else ""


def _line_digests(text: str) -> Iterator[str]:
    return (_line_digest(line) for line in map(str.strip, text.splitlines()) if len(line) >= _SHORTEST_LINE)


def _line_digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]
