"""A model's tokenizer, seen twice: with its added tokens and without.

Text of a message is encoded by the view *without* added tokens, so that it can never become a control token; the
renderer alone names control tokens, by :attr:`Tokenizer.control`. Token ids turn back into **bytes**, not characters,
because one character may be spread over several sampled tokens.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import orjson
import tokenizers


class HuggingFaceTokenizer(Protocol):
    """What is used of a ``transformers`` fast tokenizer."""

    backend_tokenizer: tokenizers.Tokenizer
    chat_template: Any
    special_tokens_map: Mapping[str, Any]
    name_or_path: str


TokenizerLike: TypeAlias = "Tokenizer | HuggingFaceTokenizer | str | Path"


class TokenizerError(ValueError):
    """A tokenizer that cannot be loaded, or a text that it cannot encode safely."""


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
        #: Control tokens: text to id. Added tokens of mere white space are words, not control (GPT-NeoX, Gemma).
        self.control: dict[str, int] = {t.content: i for i, t in added.items() if not _is_white_space(t.content)}
        self.control_ids = frozenset(self.control.values())
        self.strips = {t.content: (t.lstrip, t.rstrip) for t in added.values() if t.lstrip or t.rstrip}
        self.vocab_size: int = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        self.stop_ids = list(stop_ids) or self._eos_ids()
        self._bytes = _BytesOfToken(self._word_bytes, {i: text.encode() for text, i in self.control.items()})
        description = orjson.loads(backend.to_str())
        self._is_byte_level = "ByteLevel" in str(description["decoder"])
        description["added_tokens"] = [t for t in description["added_tokens"] if _is_white_space(t["content"])]
        description["post_processor"] = None
        _prepend_nothing(description["pre_tokenizer"])
        self._words = tokenizers.Tokenizer.from_str(orjson.dumps(description).decode())
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
        hf = _from_pretrained(str(source)) if isinstance(source, str | Path) else source
        if not hasattr(hf, "backend_tokenizer"):
            raise TokenizerError(f"{hf.name_or_path}: only fast tokenizers (with a tokenizer.json) are supported")
        template = hf.chat_template
        if isinstance(template, dict):  # several named templates; "default" is the one that chat uses
            template = template.get("default")
        special = {k: str(v) for k, v in hf.special_tokens_map.items() if isinstance(v, str) or hasattr(v, "content")}
        return cls(
            hf.backend_tokenizer,
            chat_template=template,
            special_tokens=special,
            stop_ids=_generation_stop_ids(hf.name_or_path),
            name=hf.name_or_path,
        )

    def _eos_ids(self) -> list[int]:
        eos = self.special_tokens.get("eos_token")
        return [self.control[eos]] if eos in self.control else []

    def encode_text(self, text: str) -> list[int]:
        """Ids of ordinary text: never a control token, whatever the text spells (NO-FORGERY)."""
        ids: list[int] = self._encode(text).ids
        return ids if self.control_ids.isdisjoint(ids) else self.encode_text_with_starts(text)[0]

    def _encode(self, text: str) -> tokenizers.Encoding:
        try:
            return self._words.encode(text, add_special_tokens=False)
        except TypeError as error:  # the one kind of str that is no text
            raise TokenizerError(f"{text[:200]!a} holds half of a surrogate pair, which is no text") from error

    def encode_text_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """Like :meth:`encode_text`, with the character of ``text`` at which each token starts."""
        encoding = self._encode(text)
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
        left, left_starts = self.encode_text_with_starts(text[:cut])
        right, right_starts = self.encode_text_with_starts(text[cut:])
        return left + right, left_starts + [cut + s for s in right_starts]

    def encode_like_model(self, text: str) -> list[int]:
        """Ids as ``transformers`` gives them for a rendered template: control tokens recognised in the text."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
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
        if self._is_byte_level:
            return b"".join(_BYTE_OF_CHAR.get(char) or char.encode() for char in token)
        if match := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
            return bytes([int(match[1], 16)])
        return token.replace("▁", " ").encode()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of several tokens, control tokens spelled out."""
        return b"".join(map(self._bytes.__getitem__, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of several tokens; bytes that are not UTF-8 (a character cut in the middle) show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


def _is_white_space(token: str) -> bool:
    """``▁`` is the space of vocabularies that were made by SentencePiece."""
    return not token.replace("▁", " ").strip()


def _prepend_nothing(pre_tokenizer: dict[str, Any] | None) -> None:
    """A tokenizer that puts a space before the first word of a text does so once in a prompt, not in each run of text
    between control tokens; and a prompt starts with a control token."""
    if pre_tokenizer is None:
        return
    if pre_tokenizer.get("prepend_scheme") == "first":
        pre_tokenizer["prepend_scheme"] = "never"
    for part in pre_tokenizer.get("pretokenizers", ()):
        _prepend_nothing(part)


class _BytesOfToken(dict[int, bytes]):
    """Looked up for each token that is ever decoded, so kept; found out when first asked for."""

    def __init__(self, find: Callable[[int], bytes], known: Mapping[int, bytes]) -> None:
        super().__init__(known)
        self._find = find

    def __missing__(self, token_id: int) -> bytes:
        found = self[token_id] = self._find(token_id)
        return found


def _from_pretrained(source: str) -> HuggingFaceTokenizer:
    import transformers  # imported late: it takes most of a second, and a GGUF model does without

    try:
        tokenizer: HuggingFaceTokenizer = transformers.AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise TokenizerError(f"no tokenizer at {source!r} (a hub name or a directory): {error}") from error
    return tokenizer


def _generation_stop_ids(source: str) -> list[int]:
    """``eos_token_id`` of the model's ``generation_config.json`` (an id or a list of ids), where it has one."""
    path = Path(source) / "generation_config.json"
    if not path.is_file():
        if not source or Path(source).exists():
            return []
        from transformers.utils.hub import cached_file

        found = cached_file(
            source,
            "generation_config.json",
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is None:
            return []
        path = Path(found)
    eos = json.loads(path.read_text()).get("eos_token_id", [])
    return [eos] if isinstance(eos, int) else list(eos)


def byte_level_alphabet() -> dict[str, bytes]:
    """GPT-2's printable stand-ins for bytes (openai/gpt-2, ``encoder.py``, ``bytes_to_unicode``), reversed."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): bytes([b]) for b in printable} | {chr(256 + n): bytes([b]) for n, b in enumerate(others)}


_BYTE_OF_CHAR = byte_level_alphabet()
