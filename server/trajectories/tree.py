"""The live part of a session's turns: what finding and extending a prefix needs, and no more.

Everything else of a turn is in the store. Nodes hold tokens as packed int32, 4 bytes each.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tickertape.server.trajectories.broken_answers import BrokenAnswer, broken_answer
from tickertape.server.trajectories.turn import Outcome, TokenIds, Turn

#: Outcomes of calls for which nothing was sampled, and nothing ever will be.
_NOT_SAMPLED = (Outcome.REJECTED, Outcome.REPLAYED)


@dataclass(slots=True, eq=False)
class Node:
    """A committed turn as the tree needs it."""

    id: str
    parent: "Node | None"
    seq: int
    prompt_delta: TokenIds
    completion: TokenIds
    tools_digest: str
    options_digest: str
    """Of the template's options: another one means that the stream was rendered by other rules."""
    length: int
    """Tokens of the complete stream."""
    told: str = ""
    """Digest of the answer, by which it is seen that a client sends it back otherwise; empty where it is not known."""
    children: "list[Node]" = field(default_factory=list)
    extensions: int = 0
    """Number of times it was extended, by turns that run, failed or became children."""

    def path(self) -> "list[Node]":
        """From the root to this node."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def stream(self) -> TokenIds:
        """Every token that the model read and wrote up to the end of this turn."""
        return np.concatenate([part for node in self.path() for part in (node.prompt_delta, node.completion)])

    def answer(self) -> "Answered":
        """The assistant's turn that this turn ends, with what was sampled of it before it was cut and continued."""
        first, parts = self, [self.completion]
        while not len(first.prompt_delta) and first.parent is not None:
            first = first.parent
            parts.append(first.completion)
        return Answered(first, np.concatenate(parts[::-1]) if len(parts) > 1 else self.completion)

    def prompt_end(self, most: int) -> list[int]:
        """The last tokens of this turn's prompt, up to ``most`` of them."""
        end: list[int] = self.prompt_delta[-most:].tolist()
        node = self.parent
        while node is not None and len(end) < most:
            for part in (node.completion, node.prompt_delta):
                end = [*part[len(part) - min(len(part), most - len(end)) :].tolist(), *end]
            node = node.parent
        return end


@dataclass(frozen=True, slots=True)
class Answered:
    """An assistant's turn, in one or several of ours."""

    first: Node
    """The one whose prompt opened it."""
    completion: TokenIds
    """All that was sampled of it."""


class SessionTree:
    """All turns of one session. Only :meth:`begin`, :meth:`add` and :meth:`give_up` change it, and only by adding."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.roots: list[Node] = []
        self.root_extensions = 0
        """Number of turns that began without a parent."""
        self.complete_to = 0
        """All turns with a lower ``seq`` are known here; of later ones some may be, when several processes add."""
        self._ahead: set[int] = set()
        self.broken_answers: dict[str, list[BrokenAnswer]] = {}
        """Answers with calls that could not be run, by the digest of the request that they answer, oldest first."""
        self.n_tokens = 0
        """Tokens that its nodes hold."""
        self._nodes: dict[str, Node] = {}
        self._by_context: dict[bytes, list[Node]] = {}
        self._asked: Counter[str] = Counter()
        self._depths: dict[str, int] = {}
        self._lines: set[str] = set()
        self._bodies: set[str] = set()
        self._begun: dict[str, tuple[Node | None, str]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def begin(self, turn: Turn, parent: Node | None) -> None:
        """A turn that is about to be sampled. From here on another one below the same parent is a fork."""
        asked = turn.digests.get("request", "")
        self._begun[turn.id] = (parent, asked)
        self._count(parent, asked, 1)

    def add(self, turn: Turn, options_digest: str) -> None:
        """Makes a committed turn known, once: the tape may tell of it before its own process does. A turn without an
        answer cannot be extended and takes up no memory."""
        if not self._is_new(turn.seq):
            return
        parent = self._nodes[turn.parent_id] if turn.parent_id is not None else None
        if turn.outcome in _NOT_SAMPLED:
            if turn.id in self._begun:
                self._count(*self._begun.pop(turn.id), -1)
            return
        if self._begun.pop(turn.id, None) is None:
            self._count(parent, turn.digests.get("request", ""), 1)
        if not turn.context_digest:
            return
        length = (parent.length if parent else 0) + len(turn.prompt_delta) + len(turn.completion)
        node = Node(
            id=turn.id,
            parent=parent,
            seq=turn.seq,
            prompt_delta=turn.prompt_delta,
            completion=turn.completion,
            tools_digest=turn.tools_digest,
            options_digest=options_digest,
            length=length,
            told=turn.digests.get("told", ""),
        )
        (parent.children if parent else self.roots).append(node)
        self._nodes[turn.id] = node
        self.n_tokens += len(turn.prompt_delta) + len(turn.completion)
        self._by_context.setdefault(turn.context_digest, []).append(node)
        if broken := broken_answer(turn):
            self.broken_answers.setdefault(turn.digests.get("request", ""), []).append(broken)
        if answer := turn.digests.get("answer"):
            self._depths[answer] = turn.answer_index
        if line := turn.digests.get("line"):
            self._lines.add(line)
        if body := turn.digests.get("body"):
            self._bodies.add(body)

    def _is_new(self, seq: int) -> bool:
        if seq < self.complete_to or seq in self._ahead:
            return False
        self._ahead.add(seq)
        while self.complete_to in self._ahead:
            self._ahead.remove(self.complete_to)
            self.complete_to += 1
        return True

    def give_up(self, turn: Turn) -> None:
        """The turn has ended and is not on tape. It keeps its place among those that were asked: it may come later."""
        self._begun.pop(turn.id, None)

    def has_begun(self, turn_id: str) -> bool:
        """Returns True if the turn is being sampled."""
        return turn_id in self._begun

    def _count(self, parent: Node | None, asked: str, by: int) -> None:
        if parent is None:
            self.root_extensions += by
        else:
            parent.extensions += by
        self._asked[asked] += by

    # What is known.

    def ending_with(self, context_digest: bytes) -> list[Node]:
        """Turns after which the conversation was exactly this one, oldest first."""
        return self._by_context.get(context_digest, [])

    def was_asked(self, request_digest: bytes) -> bool:
        """Returns True if a turn was sampled, or is being sampled, for a request with exactly these messages."""
        return self._asked[request_digest.hex()] > 0

    def was_sent(self, body_digest: str) -> bool:
        """Returns True if a turn answered a request of exactly these bytes."""
        return body_digest in self._bodies

    def depth_of_answer(self, answer_digest: str) -> int | None:
        """Returns how many messages stood before an answer when it was last given, whatever they were; ``None`` for one
        that no turn gave."""
        return self._depths.get(answer_digest)

    def has_line(self, line_digest: str) -> bool:
        """Returns True if it is the longest line of an answer."""
        return line_digest in self._lines

    def deepest_prefix(self, token_ids: TokenIds) -> Node | None:
        """The turn with the longest stream that ``token_ids`` begins with; it leaves at least one token to add."""
        best: Node | None = None
        for node in self._prefixes(self.roots, token_ids, 0):
            if best is None or node.length >= best.length:
                best = node
        return best

    def _prefixes(self, nodes: list[Node], token_ids: TokenIds, start: int) -> Iterator[Node]:
        waiting = [(node, start) for node in nodes]
        while waiting:
            node, at = waiting.pop()
            if node.length >= len(token_ids):
                continue
            middle = at + len(node.prompt_delta)
            same = np.array_equal(token_ids[at:middle], node.prompt_delta)
            if same and np.array_equal(token_ids[middle : node.length], node.completion):
                yield node
                waiting += [(child, node.length) for child in node.children]
