"""Pieces to token ids, with attribution.

Neighbouring text is encoded as one run, whoever it belongs to, because that is how the model's own template is
tokenised: ``"user\\n"`` and a content that starts with a newline share a token. Afterwards each token is attributed to
the piece in which it starts.
"""

from collections.abc import Iterable, Sequence

from tickertape.renderers.pieces import Kind, Piece, Placed, Trust
from tickertape.renderers.prompt import Prompt
from tickertape.renderers.tokenizer import Tokenizer

_Owner = tuple[int, Kind]
_Run = list[tuple[str, _Owner]]
_Part = tuple[str, int | None]
"""Text, and its id where it is a control token."""


class Encoder:
    """Encodes pieces for one vocabulary.

    Args:
        tokenizer: the model's.
        tags: the family's reasoning and tool-call tags; pieces of :attr:`Trust.TAGS` may spell the control tokens that
            these are, or are made of (``<｜DSML｜invoke``).
    """

    def __init__(self, tokenizer: Tokenizer, tags: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self._tags = tokenizer.control.keys() & {part for tag in tags for part in tokenizer.split_control(tag)}
        self._markup: dict[str, list[_Part]] = {}
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
        run: _Run = []
        strip_next = False
        last_kind: Kind | None = None
        for message, piece in placed:
            kind = piece.kind
            if kind == split_before != last_kind:
                self._flush(run, prompt, continues)
            last_kind = kind
            for part, control_id in self._split(piece):
                if control_id is None:
                    run.append((part.lstrip() if strip_next else part, (message, kind)))
                    strip_next = strip_next and not part.strip()
                    continue
                left, strip_next = self.tokenizer.strips.get(part, (False, False))
                self._flush(_rstrip(run) if left else run, prompt, continues)
                prompt.token_ids.append(control_id)
                prompt.add_span(message, kind, 1)
        self._flush(run, prompt, continues)
        return prompt

    def _split(self, piece: Piece) -> Iterable[_Part]:
        text, _, trust = piece
        if trust is Trust.NONE:
            return ((text, None),)
        if trust is Trust.TAGS:
            return [(part, self.tokenizer.control[part] if part in self._tags else None) for part in self._tagged(text)]
        parts = self._markup.get(text)
        if parts is None:
            control = self.tokenizer.control
            parts = self._markup[text] = [(part, control.get(part)) for part in self.tokenizer.split_control(text)]
        return parts

    def _tagged(self, text: str) -> list[str]:
        """Tags, and all that is between them, control tokens that the text may not spell included."""
        joined: list[str] = []
        for part in self.tokenizer.split_control(text):
            if part in self._tags or not joined or joined[-1] in self._tags:
                joined.append(part)
            else:
                joined[-1] += part
        return joined

    def _flush(self, run: _Run, prompt: Prompt, continues: bool) -> None:
        """Encodes the run into ``prompt`` and empties it."""
        if not run:
            return
        worded = [part for part in run if part[0]]
        run.clear()
        if not worded:
            return
        owner = worded[0][1]
        first = not continues and not prompt.token_ids
        if all(other == owner for _, other in worded):
            text = "".join([part for part, _ in worded])
            is_scaffold = owner[1] is Kind.SCAFFOLD and not first
            ids = self._encode_scaffold(text) if is_scaffold else self.tokenizer.encode_text(text, first=first)
            counts: Sequence[int] = (len(ids),)
        else:
            ids, counts = self.tokenizer.encode_parts([part for part, _ in worded], first=first)
        prompt.token_ids.extend(ids)
        for (_, (message, kind)), count in zip(worded, counts, strict=False):
            prompt.add_span(message, kind, count)

    def _encode_scaffold(self, text: str) -> list[int]:
        """Scaffold comes in few variants (``"\\n"``, ``"assistant\\n"``), so each is encoded once."""
        ids = self._scaffold_runs.get(text)
        if ids is None:
            ids = self.tokenizer.encode_text(text)
            if len(self._scaffold_runs) < 1024:
                self._scaffold_runs[text] = ids
        return ids


def _rstrip(run: _Run) -> _Run:
    """``run`` without the white space at its end, which a control token with ``lstrip`` swallows."""
    for k in range(len(run) - 1, -1, -1):
        text, owner = run[k]
        run[k] = (text.rstrip(), owner)
        if run[k][0]:
            break
    return run
