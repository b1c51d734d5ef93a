"""The nature of single tokens: the bytes they stand for, and which of the added ones are words like any other."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import tokenizers
from tokenizers import models


def rules_of(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """Returns what a tokenizer's ``tokenizer.json`` says besides the vocabulary, which would take long to read."""
    bare = tokenizers.Tokenizer(models.BPE())
    bare.normalizer, bare.pre_tokenizer, bare.decoder = backend.normalizer, backend.pre_tokenizer, backend.decoder
    rules: dict[str, Any] = orjson.loads(bare.to_str())
    return rules


def byte_level_alphabet() -> dict[str, bytes]:
    """GPT-2's printable stand-ins for bytes (openai/gpt-2, ``encoder.py``, ``bytes_to_unicode``), reversed."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): bytes([b]) for b in printable} | {chr(256 + n): bytes([b]) for n, b in enumerate(others)}


_BYTE_OF_CHAR = byte_level_alphabet()
#: For ``str.translate``: the alphabet to Latin-1, and what is not of the alphabet out of it.
_TO_LATIN_1 = dict.fromkeys(range(256), 0xFFFD) | {ord(char): byte[0] for char, byte in _BYTE_OF_CHAR.items()}


def bytes_of_spelled(token: str) -> bytes | None:
    """The bytes of a token in the byte-level alphabet; ``None`` where it uses another character."""
    try:
        return token.translate(_TO_LATIN_1).encode("latin-1")
    except UnicodeEncodeError:
        return None


def missing_bytes(backend: tokenizers.Tokenizer) -> re.Pattern[bytes] | None:
    """Returns a pattern that finds the bytes for which a byte-level vocabulary has no token; ``None`` where it has
    all."""
    lacking = [byte for char, byte in _BYTE_OF_CHAR.items() if backend.token_to_id(char) is None]
    return re.compile(b"[" + b"".join(map(re.escape, lacking)) + b"]") if lacking else None


class BytesOfToken(dict[int, bytes]):
    """Looked up for each token that is ever decoded, so kept; found out when first asked for."""

    def __init__(self, find: Callable[[int], bytes], known: Mapping[int, bytes]) -> None:
        super().__init__(known)
        self._find = find

    def __missing__(self, token_id: int) -> bytes:
        found = self[token_id] = self._find(int(token_id))
        return found


def byte_level_bytes(token: str) -> bytes:
    """The bytes of a token of a byte-level vocabulary; characters outside its alphabet stand for themselves."""
    return b"".join(_BYTE_OF_CHAR.get(char) or char.encode() for char in token)


def sentencepiece_bytes(token: str) -> bytes:
    """The bytes of a token of a vocabulary with ``▁`` for the space and ``<0x0A>`` for a byte."""
    if match := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
        return bytes([int(match[1], 16)])
    return token.replace("▁", " ").encode()


_HTML = (
    "a b blockquote body br caption code dd div dl dt em footer h1 h2 h3 h4 h5 h6 hr html i iframe img li ol p pre s "
    "span strong sub sup table tbody td tfoot th thead tr u ul"
)
_HTML_TAG = re.compile(rf"</?(?:{_HTML.replace(' ', '|')})>")


def is_word(token: tokenizers.AddedToken) -> bool:
    """Returns True if an added token is a word that any text may spell, not a control token.

    Vocabularies add runs of white space (GPT-NeoX; Gemma, with ``▁`` for the space) and Gemma adds HTML tags; encoding
    them otherwise than the model does would only make its text stranger. What is marked special is never a tag of HTML:
    Llama's ``<s>`` begins texts.
    """
    if not token.content.strip():
        return True
    return not token.special and (not token.content.strip("▁") or _HTML_TAG.fullmatch(token.content) is not None)
