"""Byte-level BPE through ``tiktoken``, which encodes six to ten times faster than ``tokenizers``.

The ranks are made of the model's own vocabulary and merges, the split pattern is its pre-tokenizer's. What tiktoken
does differently is either excluded when a vocabulary is taken over or left to the slow encoder text by text, and each
vocabulary must give the same ids as its slow encoder on a set of probes before it is used.

Where the two could differ:

* tiktoken joins any two tokens whose bytes make a third, ``tokenizers`` only listed pairs. They agree if every token is
  what its own text is encoded to: no state in which an unlisted pair would join can then be reached. A sample of the
  vocabulary is tried at load, all of it in the tests.
* tiktoken drops text that the pattern does not match; the pattern is given a last alternative for it.
* tiktoken panics on a byte without a token, and on white space without end: such texts go to the slow encoder.
* Text that is not in normal form C, where the model's is, goes to the slow encoder too.
"""

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, islice
from operator import ne
from typing import Any

import orjson
import tiktoken
import tokenizers
from tokenizers import models

from tickertape.renderers.vocabulary import bytes_of_spelled, missing_bytes, rules_of

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_CJK = "一-龥\u3040-ヿ"
_DEEPSEEK_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Patterns that split one after the other, as the one pattern that does the same: what an earlier one takes is kept out
#: of the later ones' classes, and white space before it counts as standing at the end.
_JOINED: dict[tuple[str, ...], str] = {
    # SmolLM2, StarCoder 2
    (_DIGIT, GPT2_PATTERN): (r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"),
    # DeepSeek V3, R1
    (r"\p{N}{1,3}", _DEEPSEEK_CJK, _DEEPSEEK_WORDS): (
        rf"\p{{N}}{{1,3}}|[{_CJK}]+"
        r"""|[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
        rf"|[^\r\n\p{{L}}\p{{P}}\p{{S}}\p{{N}}{_CJK}]?[[\p{{L}}\p{{M}}]--[{_CJK}]]+"
        rf"| ?[[\p{{P}}\p{{S}}]--[{_CJK}]]+[\r\n]*|\s*[\r\n]+|\s+(?![^\s\p{{N}}{_CJK}])|\s+"
    ),
}

PROBES = (
    "".join(map(chr, range(0x20)))
    + " \x7f\x80\x85\xa0\xad "
    + "\u200b\u200d\u2028\u2029\u202f\u3000\ufeff\ufffd\ufffe",
    " a  b   c\n d \n\n e\r\n\r\nf\t\tg \t h\n \n  i   \n",
    "   ",
    "\n\n\n ",
    "I'm you're it's THEY'LL we'd He'S 'tis ''s 'ſ it'ſ I'ſ ’s don’t",
    "0 1 12 123 1234 12345 123456789 3.14159 1,000,000 ½²৪Ⅷ१२३४ a1b22c333 1st  7  88   999",
    "def f(x: int) -> str:\n    return {'a': [x, -1]}  # none\n\n\tif x != y and z >= 0: pass;;\n}\n//--==++",
    '{"name": "look_up", "arguments": {"city": "Köln", "n": [1, 2.5e-3, null, true]}}\n</tool>\n<b>x</b> <a href="#">',
    "the weather in Köln, naïve façade, ÆØÅ ŒŠŽ ẞß Ελλάδα Россия Հայաստան ქართული שָׁלוֹם العَرَبِيَّة हिन्दी ไทย ພາສາ",
    "漢字かな交じり文。カタカナ・ー゛゠ 한국어 中文,english混排123数字 \u3040\u3042 龥龦鿿 㐀𠀀 、。「」　全角　",
    "👩‍👩‍👧‍👦🦙 🏳️‍🌈 𝔘𝔫𝔦 𓀀 e\u0301 \u0338< 🇩🇪 1️⃣ ©®™ ∑∫√ €¥£ →⇒ ☃",
    "HTTPServer camelCase SHOUTING_snake Ǆǅǆ ʰʱ ªº İıſK",
    "a" * 300 + " " * 300 + "=" * 300 + "\n" * 300 + "ab" * 200 + "\u00e9" * 200 + "漢" * 200 + "7" * 200,
    "\u0378\ue000\U000e0001\U000f0000\U0010ffff\x00\x00",
)
#: Characters of white space in one run beyond which the pattern may exhaust tiktoken's stack (it does at a million).
_MOST_SPACE = 50_000
_SPACE = re.compile(r"\s+")
#: One token of so many is encoded by the slow encoder at load, to see that its merges make it.
_SAMPLE = 16


class NotFast(Exception):
    """The reason why a vocabulary stays with its slow encoder."""


class FastBPE:
    """Encodes ordinary text to the ids that ``words`` gives. Make it by :meth:`of`."""

    def __init__(
        self,
        encoding: tiktoken.Encoding,
        ids: list[int] | None,
        lengths: Mapping[int, int],
        *,
        nfc: bool,
        missing: re.Pattern[bytes] | None,
    ) -> None:
        self._encode = encoding.encode_ordinary
        self._ids = ids
        """Id of each rank, where they differ."""
        self._length = lengths.__getitem__
        self._nfc = nfc
        self._missing = missing

    @classmethod
    def of(cls, words: tokenizers.Tokenizer, control: Collection[str]) -> "FastBPE":
        """For a vocabulary whose ``words`` are the slow encoder, its control tokens left out.

        Raises:
            NotFast: it is no byte-level BPE, or one that tiktoken cannot do; the text says why.
        """
        nfc, pattern = _rules(words)
        if words.get_added_tokens_decoder():
            raise NotFast("some of its words are added tokens")
        ranks, ids = _ranks(words, control)
        whole = f"{pattern}|(?:(?!{pattern})[\\s\\S])+"
        try:
            encoding = tiktoken.Encoding("words", pat_str=whole, mergeable_ranks=ranks, special_tokens={})
        except ValueError as error:
            raise NotFast(f"tiktoken does not read its split pattern: {error}") from error
        lengths = {(rank if ids is None else ids[rank]): len(token) for token, rank in ranks.items()}
        made = cls(encoding, ids, lengths, nfc=nfc, missing=missing_bytes(words))
        for probe in (*PROBES, _every_script()):
            if (found := made.encode(probe)) is not None and found != words.encode(probe, add_special_tokens=False).ids:
                raise NotFast(f"tiktoken encodes {probe[:40]!r} differently")
        return made

    def encode(self, text: str) -> list[int] | None:
        """Ids of a text, or ``None`` where the slow encoder must do it, or must refuse it."""
        if not text.isascii() and not self._is_plain(text):
            return None
        if self._missing is not None and self._missing.search(text.encode()):
            return None
        if len(text) > _MOST_SPACE and _longest_space(text) > _MOST_SPACE:
            return None
        ranks = self._encode(text)
        return ranks if self._ids is None else list(map(self._ids.__getitem__, ranks))

    def encode_parts(self, parts: Sequence[str]) -> tuple[list[int], list[int]] | None:
        """Ids of the joined parts, and how many tokens begin in each; ``None`` as :meth:`encode`."""
        text = "".join(parts)
        ids = self.encode(text)
        if ids is None:
            return None
        lengths = map(len, parts if text.isascii() else [part.encode() for part in parts])
        return ids, begins_in(accumulate(map(self._length, ids), initial=0), lengths)

    def _is_plain(self, text: str) -> bool:
        """Returns True if it is text at all (tiktoken replaces half a surrogate pair), and needs no normalising."""
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
        return not self._nfc or unicodedata.is_normalized("NFC", text)


def begins_in(starts: Iterable[int], lengths: Iterable[int]) -> list[int]:
    """Counts how many of the ascending ``starts`` lie in each of the stretches that have these ``lengths``."""
    placed = list(starts)
    counts, done = [], 0
    for end in accumulate(lengths):
        upto = bisect_left(placed, end, lo=done)
        counts.append(upto - done)
        done = upto
    return counts


def _longest_space(text: str) -> int:
    return max((len(run) for run in _SPACE.findall(text)), default=0)


def _rules(words: tokenizers.Tokenizer) -> tuple[bool, str]:
    """Returns whether text is put in normal form C, and the pattern that splits it."""
    rules = rules_of(words)
    normalizers = _flat(rules["normalizer"], "normalizers")
    if any(step["type"] != "NFC" for step in normalizers):
        raise NotFast(f"its text is normalised by {', '.join(step['type'] for step in normalizers)}")
    *splits, last = _flat(rules["pre_tokenizer"], "pretokenizers") or [{"type": "nothing"}]
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        raise NotFast("it is no byte-level BPE")
    patterns = tuple(_pattern(split) for split in splits) + ((GPT2_PATTERN,) if last["use_regex"] else ())
    if len(patterns) == 1:
        return bool(normalizers), patterns[0]
    if patterns not in _JOINED:
        raise NotFast(f"it splits text by {len(patterns)} patterns in turn, which are not known as one")
    return bool(normalizers), _JOINED[patterns]


def _flat(step: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    return [part for each in step[inner] for part in _flat(each, inner)] if step["type"] == "Sequence" else [step]


def _pattern(split: Mapping[str, Any]) -> str:
    if split["type"] == "Digits" and split["individual_digits"]:
        return _DIGIT
    if split["type"] != "Split" or "Regex" not in split["pattern"] or split["behavior"] != "Isolated":
        raise NotFast(f"it splits text by {split['type']}")
    written: str = split["pattern"]["Regex"]
    return written.replace("\r", r"\r").replace("\n", r"\n")


def _ranks(words: tokenizers.Tokenizer, control: Collection[str]) -> tuple[dict[bytes, int], list[int] | None]:
    """tiktoken's ranks, and the id of each rank unless they are the ids themselves."""
    model = orjson.loads(words.model.__getstate__())
    if model["type"] != "BPE" or model["byte_fallback"] or model["dropout"] or model["unk_token"] is not None:
        raise NotFast("it is no byte-level BPE")
    vocab: dict[str, int] = model["vocab"]
    # Of hundreds of thousands of merges and tokens: each step is one call over all of them, where it can be.
    texts = [m.replace(" ", "", 1) if isinstance(m, str) else "".join(m) for m in model["merges"]]
    made = list(map(vocab.__getitem__, texts))
    n_merges = Counter(made)  # in the order in which they are first made
    if made and 1 + sum(map(ne, made, islice(made, 1, None))) != len(n_merges):
        raise NotFast("some of its tokens have several merges of unlike rank")
    whole = model["ignore_merges"]
    reachable = (
        (text, i) for text, i in vocab.items() if (i in n_merges or len(text) == 1 or whole) and text not in control
    )
    by_bytes = {token: i for text, i in reachable if (token := bytes_of_spelled(text)) is not None}
    if not n_merges.keys() <= set(by_bytes.values()):
        raise NotFast("a control token is made by merges")
    sample = [text for text, i in vocab.items() if (i % _SAMPLE == 0 or i not in n_merges) and text not in control]
    if not whole:
        sample = [text for text in sample if vocab[text] in n_merges]
    elif strange := [text for text in sample if _unlisted(text, vocab, n_merges.get(vocab[text], 0))]:
        sample = strange
    else:
        sample = []  # whatever two tokens make a third is a merge, as with tiktoken
    if sample and (strange := strangers(words, sample)):
        raise NotFast(f"its merges do not always make its token {strange[0]!r}")
    if list(n_merges) == sorted(n_merges):
        return by_bytes, None
    ids = [*sorted(set(by_bytes.values()) - n_merges.keys()), *n_merges]
    rank_of = {token_id: rank for rank, token_id in enumerate(ids)}
    return {token: rank_of[i] for token, i in by_bytes.items()}, ids


def strangers(words: tokenizers.Tokenizer, spelled: Iterable[str]) -> list[str]:
    """Those tokens, in the byte-level alphabet, that tiktoken may make where the merges do not: their own text is
    encoded to two tokens, or, where whole words are not looked up first, to more."""
    model, looks_up = words.model, words.model.ignore_merges
    if looks_up:
        model = models.BPE()
        model.__setstate__(words.model.__getstate__())
        model.ignore_merges = False
    bare = tokenizers.Tokenizer(model)
    lengths = ((token, len(bare.encode(token, add_special_tokens=False).ids)) for token in spelled)
    return [token for token, length in lengths if (length == 2 if looks_up else length != 1)]


def _unlisted(token: str, vocab: Mapping[str, int], listed: int) -> bool:
    """Returns True if two tokens that make this one are not among its ``listed`` merges."""
    return sum(token[:k] in vocab and token[k:] in vocab for k in range(1, len(token))) != listed


def _every_script() -> str:
    """One character of each block of 64, assigned or not, so that engines of unlike Unicode versions are found out."""
    blocks = (chr(c) for c in range(0x80, 0x32000, 64) if not 0xD800 <= c < 0xE000)
    return unicodedata.normalize("NFC", " a".join(blocks))
