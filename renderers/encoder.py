"""Pieces to token ids, with attribution.

Neighbouring text is encoded as one run, whoever it belongs to, because that is how the model's own template is
tokenised: ``"user\\n"`` and a content that starts with a newline share a token. Afterwards each token is attributed to
the piece in which it starts.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat

from tickertape.renderers.pieces import Kind, Piece, Placed, Trust
from tickertape.renderers.prompt import Prompt
from tickertape.renderers.tokenizer import Tokenizer

_Owner = tuple[int, Kind]


class Encoder:
    """Encodes pieces for one vocabulary.

    Args:
        tokenizer: the model's.
        tags: control tokens that pieces of :attr:`Trust.TAGS` may spell: the family's reasoning and tool-call tags.
    """

    def __init__(self, tokenizer: Tokenizer, tags: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self._tags = frozenset(tags)
        self._markup: dict[str, list[str]] = {}
        self._scaffold_runs: dict[str, list[int]] = {}

    def encode(self, placed: Iterable[Placed], *, split_before: Kind | None = None, continues: bool = False) -> Prompt:
        """One :class:`Prompt` from pieces in order.

        Args:
            placed: the pieces, each with its message.
            split_before: also end a run where a piece of this kind follows one of another, so that no token straddles
                that border: where sampling starts, the model never sees a token that reaches over it.
            continues: the pieces carry on a prompt; else they begin one, which matters to vocabularies that put a space
                before the first word of a prompt.
        """
        prompt = Prompt()
        run: list[tuple[str, _Owner]] = []
        strip_next = False
        last_kind: Kind | None = None
        for message, piece in placed:
            owner = (message, piece.kind)
            if piece.kind == split_before != last_kind:
                self._flush(run, prompt, continues)
            last_kind = piece.kind
            for part in self._split(piece):
                control_id = self.tokenizer.control.get(part) if piece.trust is not Trust.NONE else None
                if control_id is None or not self._may_spell(piece, part):
                    run.append((part.lstrip() if strip_next else part, owner))
                    strip_next = strip_next and not part.strip()
                    continue
                left, strip_next = self.tokenizer.strips.get(part, (False, False))
                self._flush(_rstrip(run) if left else run, prompt, continues)
                prompt.token_ids.append(control_id)
                prompt.messages.append(message)
                prompt.kinds.append(piece.kind)
        self._flush(run, prompt, continues)
        return prompt

    def _may_spell(self, piece: Piece, token: str) -> bool:
        return piece.trust is Trust.ALL or token in self._tags

    def _split(self, piece: Piece) -> list[str]:
        if piece.trust is Trust.NONE:
            return [piece.text]
        if piece.trust is Trust.TAGS:
            return self._join_untrusted(self.tokenizer.split_control(piece.text))
        parts = self._markup.get(piece.text)
        if parts is None:
            parts = self._markup[piece.text] = self.tokenizer.split_control(piece.text)
        return parts

    def _join_untrusted(self, parts: list[str]) -> list[str]:
        joined: list[str] = []
        for part in parts:
            if part in self._tags or not joined or joined[-1] in self._tags:
                joined.append(part)
            else:
                joined[-1] += part
        return joined

    def _flush(self, run: list[tuple[str, _Owner]], prompt: Prompt, continues: bool) -> None:
        """Encodes the run into ``prompt`` and empties it."""
        if not run:
            return
        owners = [owner for text, owner in run if text]
        text = "".join(text for text, _ in run)
        if not owners:
            run.clear()
            return
        first = not continues and not prompt.token_ids
        if all(owner == owners[0] for owner in owners):
            is_scaffold = owners[0][1] is Kind.SCAFFOLD and not first
            ids = self._encode_scaffold(text) if is_scaffold else self.tokenizer.encode_text(text, first=first)
            prompt.messages.extend(repeat(owners[0][0], len(ids)))
            prompt.kinds.extend(repeat(owners[0][1], len(ids)))
        else:
            ids, counts = self.tokenizer.encode_parts([text for text, _ in run if text], first=first)
            for (message, kind), count in zip(owners, counts, strict=True):
                prompt.messages.extend(repeat(message, count))
                prompt.kinds.extend(repeat(kind, count))
        prompt.token_ids.extend(ids)
        run.clear()

    def _encode_scaffold(self, text: str) -> list[int]:
        """Scaffold comes in few variants (``"\\n"``, ``"assistant\\n"``), so each is encoded once."""
        ids = self._scaffold_runs.get(text)
        if ids is None:
            ids = self.tokenizer.encode_text(text)
            if len(self._scaffold_runs) < 1024:
                self._scaffold_runs[text] = ids
        return ids


def _rstrip(run: list[tuple[str, _Owner]]) -> list[tuple[str, _Owner]]:
    """``run`` without the white space at its end, which a control token with ``lstrip`` swallows."""
    for k in range(len(run) - 1, -1, -1):
        text, owner = run[k]
        run[k] = (text.rstrip(), owner)
        if run[k][0]:
            break
    return run
