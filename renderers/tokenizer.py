"""A model's tokenizer, seen twice: with its added tokens and without.

Text of a message is encoded by the view *without* added tokens, so that it can never become a control token; the
renderer alone names control tokens, by :attr:`Tokenizer.control`. Token ids turn back into **bytes**, not characters,
because one character may be spread over several sampled tokens.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import orjson
import tokenizers

from tickertape.renderers.errors import TokenizerError
from tickertape.renderers.fast_bpe import PROBES, FastBPE, NotFast, begins_in
from tickertape.renderers.kimi_files import RANKS
from tickertape.renderers.tokenizer_files import read_directory
from tickertape.renderers.tokenizer_place import Place, find_tokenizer
from tickertape.renderers.vocabulary import (
    BytesOfToken,
    byte_level_bytes,
    is_word,
    missing_bytes,
    rules_of,
    sentencepiece_bytes,
)

_log = logging.getLogger(__name__)


class HuggingFaceTokenizer(Protocol):
    """The parts of a ``transformers`` fast tokenizer that are used."""

    backend_tokenizer: tokenizers.Tokenizer
    chat_template: Any
    special_tokens_map: Mapping[str, Any]
    name_or_path: str


TokenizerLike: TypeAlias = "Tokenizer | HuggingFaceTokenizer | str | Path"


def as_ids(ids: Sequence[int]) -> Sequence[int]:
    """Token ids as a list of Python's integers, whatever sequence holds them: an array of NumPy's, a tensor."""
    return ids if isinstance(ids, list | tuple) else [int(i) for i in ids]


def _encoded(backend: tokenizers.Tokenizer, text: str) -> tokenizers.Encoding:
    """A text by the slow encoder. A batch of one lets other threads run meanwhile.

    Raises:
        TypeError: it is no text.
        TokenizerError: the encoder gives up: its regular expressions look only so far into white space without end.
    """
    try:
        if len(text) <= _LONG:
            return backend.encode(text, add_special_tokens=False)
        (encoding,) = backend.encode_batch([text], add_special_tokens=False)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which is no Exception
            raise
        raise TokenizerError(f"a text of {len(text)} characters cannot be encoded: {error}") from error
    return encoding


#: Characters from which on a text takes the slow encoder more than a few milliseconds.
_LONG = 10_000


class Tokenizer:
    """Two views of one vocabulary, and the facts of its model that rendering needs.

    Args:
        backend: the model's own ``tokenizers.Tokenizer``.
        chat_template: the model's Jinja chat template, if it has one.
        special_tokens: names as templates use them (``bos_token``, ``eos_token``, …) to token text.
        stop_ids: token ids at which the model's generation config stops, the most usual first.
        name: hub name or path, for messages to people.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        chat_template: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
        stop_ids: Sequence[int] = (),
        name: str = "tokenizer",
    ) -> None:
        self.backend = backend
        self.chat_template = chat_template
        self.special_tokens: dict[str, str] = dict(special_tokens or {})
        self.name = name
        added = backend.get_added_tokens_decoder()
        special_texts = set(self.special_tokens.values())
        words = {i: t for i, t in added.items() if is_word(t) and t.content not in special_texts and i not in stop_ids}
        #: Control tokens: text to id. Of the added tokens, those that are words like any other are not among them.
        self.control: dict[str, int] = {token.content: i for i, token in added.items() if i not in words}
        self.control_ids = frozenset(self.control.values())
        self.strips = {
            t.content: (t.lstrip, t.rstrip)
            for t in added.values()
            if (t.lstrip or t.rstrip) and t.content in self.control
        }
        self.stop_ids = list(stop_ids) or self._eos_ids()
        self._bytes = BytesOfToken(self._word_bytes, {i: token.encode() for token, i in self.control.items()})
        self._is_byte_level = "ByteLevel" in str(rules_of(backend)["decoder"])
        self._words, self._first_words = _words_views(backend, words)
        self._missing = missing_bytes(backend) if self._is_byte_level else None
        self._reported = False
        longest_first = sorted(self.control, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @classmethod
    def load(cls, source: TokenizerLike) -> "Tokenizer":
        """From a hub name, a directory with ``tokenizer.json``, or a ``transformers`` fast tokenizer.

        Raises:
            TokenizerError: nothing there, or a tokenizer that has no fast (Rust) form.
        """
        if isinstance(source, Tokenizer):
            return source
        place = find_tokenizer(str(source)) if isinstance(source, str | Path) else None
        directory = _files_of(place) if place else None
        if directory is not None and (files := read_directory(directory)) is not None:
            backend, template, special = files
            stop_ids = _generation_stop_ids(Place(str(directory), is_directory=True))
            return cls(backend, chat_template=template, special_tokens=special, stop_ids=stop_ids, name=str(source))
        hf = _from_pretrained(place) if place else cast("HuggingFaceTokenizer", source)
        if not hasattr(hf, "backend_tokenizer"):
            raise TokenizerError(f"{hf.name_or_path}: only fast tokenizers (with a tokenizer.json) are supported")
        template = hf.chat_template
        if isinstance(template, dict):  # several named templates; "default" is the one that chat uses
            template = template.get("default")
        special = {k: str(v) for k, v in hf.special_tokens_map.items() if isinstance(v, str) or hasattr(v, "content")}
        return cls(
            _as_in_its_file(hf, _fetched(place, "tokenizer.json")) if place else hf.backend_tokenizer,
            chat_template=template,
            special_tokens=special,
            stop_ids=_generation_stop_ids(place or Place(hf.name_or_path, Path(hf.name_or_path).is_dir())),
            name=hf.name_or_path,
        )

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def _eos_ids(self) -> list[int]:
        eos = self.special_tokens.get("eos_token")
        return [self.control[eos]] if eos in self.control else []

    @cached_property
    def _fast_or_why(self) -> FastBPE | str:
        """Built when first used: it takes about half a second."""
        try:
            return FastBPE.of(self._words, self.control)
        except NotFast as reason:
            return str(reason)

    @property
    def encoder(self) -> str:
        """Which encoder is in use, and why it is not the fast one where it is not; for people to read."""
        fast = self._fast_or_why
        return f"tokenizers: {fast}" if isinstance(fast, str) else "tiktoken"

    def encode_text(self, text: str, *, first: bool = False) -> list[int]:
        """Ids of ordinary text: never a control token, whatever the text spells (NO-FORGERY).

        Args:
            text: a run of text between control tokens.
            first: whether a prompt begins with it; some vocabularies put a space before the first word of a prompt.

        Raises:
            TokenizerError: it holds half of a surrogate pair, or cannot be encoded but as a control token.
        """
        fast = self._fast_or_why
        if isinstance(fast, str) or (ids := fast.encode(text)) is None:
            ids = self.encode_text_with_starts(text, first=first)[0]
        return ids

    def encode_parts(self, parts: Sequence[str], *, first: bool = False) -> tuple[list[int], list[int]]:
        """Ids of the joined parts, and how many of the tokens begin in each. Otherwise as :meth:`encode_text`."""
        fast = self._fast_or_why
        if isinstance(fast, str) or (found := fast.encode_parts(parts)) is None:
            ids, starts = self.encode_text_with_starts("".join(parts), first=first)
            return ids, begins_in(starts, map(len, parts))
        return found

    def encode_text_with_starts(self, text: str, *, first: bool = False) -> tuple[list[int], list[int]]:
        """Like :meth:`encode_text`, with the character of ``text`` at which each token starts. Slow."""
        self._report_lost(text)
        encoding = self._encode_words(text, first)
        ids: list[int] = encoding.ids
        starts = [start for start, _ in encoding.offsets]
        if self.control_ids.isdisjoint(ids):
            return ids, starts
        # A vocabulary whose plain words include a control token's text: break that text apart.
        forged = next(k for k, i in enumerate(ids) if i in self.control_ids)
        start, end = encoding.offsets[forged]
        if end - start < 2:
            raise TokenizerError(f"{text[start:end]!r} cannot be encoded but as control token {ids[forged]}")
        cut = start + (end - start) // 2
        left, left_starts = self.encode_text_with_starts(text[:cut], first=first)
        right, right_starts = self.encode_text_with_starts(text[cut:])
        return left + right, left_starts + [cut + s for s in right_starts]

    def _encode_words(self, text: str, first: bool) -> tokenizers.Encoding:
        try:
            return _encoded(self._first_words if first else self._words, text)
        except TypeError as error:  # the one kind of str that is no text
            raise TokenizerError(f"{text[:200]!a} holds half of a surrogate pair, which is no text") from error

    def lost(self, text: str) -> set[str]:
        """The characters that the vocabulary cannot spell, wholly or in part: SmolLM2 has no token for some bytes.
        Its ids simply lack them, as they do with ``transformers``. The first loss is logged."""
        if self._missing is None:
            return set()
        return {char for char in set(text) if self._missing.search(char.encode("utf-8", "surrogatepass"))}

    def _report_lost(self, text: str) -> None:
        if not self._reported and (lost := self.lost(text)):
            self._reported = True
            shown = ", ".join(f"U+{ord(char):04X}" for char in sorted(lost))
            _log.warning("%s cannot spell every character: %s are missing from a prompt", self.name, shown)

    def encode_like_model(self, text: str) -> list[int]:
        """Ids as ``transformers`` gives them for a rendered template: control tokens recognised in the text."""
        ids: list[int] = _encoded(self.backend, text).ids
        return ids

    def split_control(self, text: str) -> list[str]:
        """``text`` cut so that each control token's text stands alone; empty strings left out."""
        parts, at = [], 0
        for match in self._control_pattern.finditer(text):
            parts += [text[at : match.start()], match.group()]
            at = match.end()
        return [part for part in [*parts, text[at:]] if part]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id outside the vocabulary."""
        return self._bytes[token_id]

    def _word_bytes(self, token_id: int) -> bytes:
        token = self.backend.id_to_token(token_id)
        if token is None:
            return b""
        return byte_level_bytes(token) if self._is_byte_level else sentencepiece_bytes(token)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of several tokens, control tokens spelled out."""
        return b"".join(map(self._bytes.__getitem__, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of several tokens; bytes that are not UTF-8 (a character cut in the middle) show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


def _words_views(
    backend: tokenizers.Tokenizer, words: Mapping[int, tokenizers.AddedToken]
) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """The vocabulary without its control tokens: for text anywhere in a prompt, and for text that begins one.

    They differ for Metaspace with ``prepend_scheme: first`` (Llama, Mistral), which puts a space before the first word
    of a prompt, not of each run of text between control tokens.
    """
    anywhere, first = _without_control(backend, words), _without_control(backend, words)
    rules = rules_of(backend)
    if not _prepends_to_first(rules["pre_tokenizer"]):
        return anywhere, anywhere
    anywhere.pre_tokenizer = tokenizers.Tokenizer.from_str(orjson.dumps(rules).decode()).pre_tokenizer
    return anywhere, first


def _without_control(backend: tokenizers.Tokenizer, words: Mapping[int, tokenizers.AddedToken]) -> tokenizers.Tokenizer:
    view = tokenizers.Tokenizer(backend.model)  # shared, not copied
    view.normalizer, view.pre_tokenizer, view.decoder = backend.normalizer, backend.pre_tokenizer, backend.decoder
    n_words = backend.get_vocab_size(with_added_tokens=False)
    # Ids beyond the model's own are given in order, so up to the last word each control token needs one that stands for
    # it. Its text is what no author writes; if one does, it counts as that control token, and is broken apart.
    added = sorted(backend.get_added_tokens_decoder().items())
    last = max(words, default=-1)
    for i, token in added:
        if i in words:
            view.add_tokens([token])
        elif n_words <= i < last:
            view.add_tokens([tokenizers.AddedToken(f"\uffff{i}\uffff", normalized=False)])
    if moved := [token.content for i, token in words.items() if view.token_to_id(token.content) != i]:
        raise TokenizerError(f"the added tokens {moved} have ids out of order")
    return view


def _prepends_to_first(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Returns True if it does so for the first word of a prompt only; if so, ``pre_tokenizer`` is changed not to."""
    if pre_tokenizer is None:
        return False
    parts = [_prepends_to_first(part) for part in pre_tokenizer.get("pretokenizers", ())]
    if pre_tokenizer.get("prepend_scheme") != "first":
        return any(parts)
    pre_tokenizer["prepend_scheme"] = "never"
    return True


def _from_pretrained(place: Place) -> HuggingFaceTokenizer:
    import transformers  # imported late: it takes most of a second, and a GGUF model does without

    try:
        tokenizer: HuggingFaceTokenizer = transformers.AutoTokenizer.from_pretrained(
            place.source, local_files_only=place.is_local, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise TokenizerError(place.explained(error)) from error
    return tokenizer


def _files_of(place: Place) -> Path | None:
    """The directory with a model's files, those of the hub fetched as far as they are read without ``transformers``;
    ``None`` where the hub has none of them."""
    if place.is_directory:
        return Path(place.source)
    try:
        if _fetched(place, "tokenizer.json") or not _fetched(place, "tokenizer_config.json"):
            return None
        ranks, _ = _fetched(place, RANKS), _fetched(place, "chat_template.jinja")
    except OSError:  # no such model, of which transformers tells
        return None
    return ranks.parent if ranks else None


def _as_in_its_file(hf: HuggingFaceTokenizer, file: Path | None) -> tokenizers.Tokenizer:
    """Returns what ``transformers`` made of a model's files, as far as it encodes text as the model's own
    ``tokenizer.json`` does; else what is in the file. For some classes ``transformers`` puts a split rule of its own in
    place of the file's."""
    made = hf.backend_tokenizer
    if file is None:
        return made
    own = tokenizers.Tokenizer.from_file(str(file))
    differs = next((text for text in PROBES if _encoded(own, text).ids != _encoded(made, text).ids), None)
    if differs is None:
        return made
    _log.warning(
        "%s: transformers' %s encodes %r otherwise than tokenizer.json does; tokenizer.json is used",
        file.parent,
        type(hf).__name__,
        differs[:40],
    )
    added = sorted(made.get_added_tokens_decoder().items())
    own.add_tokens([token for _, token in added if own.token_to_id(token.content) is None])
    if moved := [token.content for i, token in added if own.token_to_id(token.content) != i]:
        raise TokenizerError(f"{file}: the added tokens {moved} have other ids in tokenizer_config.json")
    return own


def _fetched(place: Place, name: str) -> Path | None:
    """A file of a model; ``None`` where there is none."""
    if place.is_directory:
        file = Path(place.source) / name
        return file if file.is_file() else None
    from transformers.utils.hub import cached_file

    found = cached_file(
        place.source,
        name,
        local_files_only=place.is_local,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _generation_stop_ids(place: Place) -> list[int]:
    """``eos_token_id`` of the model's ``generation_config.json`` (an id or a list of ids), where it has one."""
    file = _fetched(place, "generation_config.json") if place.source else None
    eos = json.loads(file.read_text()).get("eos_token_id", []) if file else []
    return [eos] if isinstance(eos, int) else list(eos)
