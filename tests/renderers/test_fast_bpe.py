"""The fast encoder gives the ids of the slow one, or says why it is not used."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tests.materials import (
    DEEPSEEK_V3,
    DEEPSEEK_V4,
    GEMMA3,
    GEMMA4,
    GPT_OSS,
    LLAMA3,
    QWEN3,
    QWEN35,
    REAL,
    SMOLLM2,
    Vocabulary,
    template,
    template_names,
)
from tests.renderers.strategies import hostile_texts, texts
from tickertape.renderers.errors import TokenizerError
from tickertape.renderers.fast_bpe import FastBPE, begins_in, strangers
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.renderers.vocabulary import byte_level_alphabet

FAST = (QWEN3, LLAMA3, GPT_OSS, DEEPSEEK_V3, DEEPSEEK_V4, SMOLLM2)
SLOW = {GEMMA3: "normalised by Replace", GEMMA4: "normalised by Replace", QWEN35: "do not always make its token"}

each_fast_one = pytest.mark.parametrize("vocabulary", FAST, ids=repr)

_TRICKY = (" ", "  ", "\n", "\r\n", "\t", "a", "B'S", "'ll", "12", "½", "漢", "ー", "é", "—", "_")
#: Whatever can be written, and what split patterns look at most.
anything = st.one_of(
    texts, hostile_texts, st.text(max_size=60), st.lists(st.sampled_from(_TRICKY), max_size=20).map("".join)
)


_MARKUP = ("<table>", "</td>", "<h1>", "</b>", "<s>", "<body>", "▁", "▁▁▁", "   ", "\n\n\n", "\t\t", "text", " a", "é")


def _slow(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    return tokenizer.encode_text_with_starts(text)


def _assert_encoded_alike(tokenizer: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    ids, starts = _slow(tokenizer, text)
    assert tokenizer.encode_text(text) == ids
    assert tokenizer.encode_parts(parts) == (ids, begins_in(starts, map(len, parts)))


@each_fast_one
def test_byte_level_vocabularies_are_encoded_fast(vocabulary: Vocabulary) -> None:
    assert vocabulary.tokenizer.encoder == "tiktoken"


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", SLOW, ids=repr)
def test_vocabularies_that_tiktoken_cannot_do_say_so(vocabulary: Vocabulary) -> None:
    assert vocabulary.tokenizer.encoder.startswith("tokenizers: ")
    assert SLOW[vocabulary] in vocabulary.tokenizer.encoder


@pytest.mark.parametrize("vocabulary", REAL, ids=repr)
@given(text=st.one_of(anything, st.lists(st.sampled_from(_MARKUP)).map("".join)))
def test_words_are_encoded_as_the_model_does(vocabulary: Vocabulary, text: str) -> None:
    """HTML, which Gemma has added tokens for, and runs of spaces included."""
    tokenizer = vocabulary.tokenizer
    assume(len(tokenizer.split_control(text)) <= 1 and text not in tokenizer.control)
    assert tokenizer.encode_text(text) == tokenizer.encode_like_model(text)


@each_fast_one
@settings(max_examples=200)
@given(parts=st.lists(anything, max_size=4))
def test_fast_and_slow_encode_alike(vocabulary: Vocabulary, parts: list[str]) -> None:
    _assert_encoded_alike(vocabulary.tokenizer, parts)


@each_fast_one
def test_fast_and_slow_encode_long_texts_alike(vocabulary: Vocabulary) -> None:
    for name in template_names()[::12]:
        source = template(name)
        _assert_encoded_alike(vocabulary.tokenizer, [source[:1000], source[1000:]])


@pytest.mark.parametrize("vocabulary", [QWEN3, DEEPSEEK_V3, DEEPSEEK_V4, SMOLLM2], ids=repr)
def test_each_token_is_what_its_text_is_encoded_to(vocabulary: Vocabulary) -> None:
    """From which it follows that tiktoken, which joins any two tokens whose bytes make a third, joins only what the
    merges join. At load a sample is tried; here all."""
    tokenizer = vocabulary.tokenizer
    assert strangers(tokenizer.backend, (t for t in tokenizer.backend.get_vocab() if t not in tokenizer.control)) == []


@each_fast_one
@pytest.mark.parametrize("run", [" ", "\n", " \n", "a", "=", "漢", "7"])
def test_no_run_is_too_long(vocabulary: Vocabulary, run: str) -> None:
    """tiktoken's patterns run out of stack in a million spaces."""
    text = "x" + run * 100_000 + "y"
    ids = vocabulary.tokenizer.encode_text(text)
    assert vocabulary.tokenizer.decode(ids) == text


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(TokenizerError, match="half of a surrogate pair"):
        QWEN3.tokenizer.encode_text("a \ud800 b")
    with pytest.raises(TokenizerError, match="half of a surrogate pair"):
        QWEN3.tokenizer.encode_parts(["a ", "\ud800"])


# Small vocabularies with one peculiarity each.

_MERGES = [("a", "b"), ("ab", "c"), ("Ġ", "ab"), ("d", "e")]


def _small(
    merges: list[tuple[str, str]] = _MERGES,
    *,
    first_ids: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    change: Callable[[tokenizers.Tokenizer], None] = lambda backend: None,
    **options: Any,
) -> Tokenizer:
    """All bytes and what ``merges`` make of them.

    Args:
        first_ids: tokens that come before all others in the order of ids.
        words: tokens that no merge makes.
    """
    made = ["".join(pair) for pair in merges]
    tokens = dict.fromkeys([*first_ids, *byte_level_alphabet(), *made, *words])
    backend = tokenizers.Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, **options))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    change(backend)
    return Tokenizer(backend)


_small_texts = st.text("abcde A\n", max_size=30)


@pytest.mark.parametrize(
    "tokenizer",
    [
        _small(),
        _small(first_ids=("de", "Ġab", "abc")),
        _small([*_MERGES, ("abc", "de")], words=("cde",), ignore_merges=False),
        _small([("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")], ignore_merges=True),
        _small(words=("edcba",), ignore_merges=True),
    ],
    ids=["plain", "ids in another order", "a token that nothing makes", "whole words", "whole words without merges"],
)
@given(text=_small_texts)
def test_peculiar_vocabularies_are_encoded_alike(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encoder == "tiktoken"
    _assert_encoded_alike(tokenizer, [text[:7], text[7:]])


def _lowercased(backend: tokenizers.Tokenizer) -> None:
    backend.normalizer = normalizers.Lowercase()


def _split_by_words(backend: tokenizers.Tokenizer) -> None:
    splits = [pre_tokenizers.Split(tokenizers.Regex(p), behavior="isolated") for p in (r"\p{N}{1,2}", r"\p{L}+|.")]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(False, use_regex=False)])


def _spaces_added(backend: tokenizers.Tokenizer) -> None:
    backend.add_tokens([tokenizers.AddedToken("   ", normalized=False)])


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (_small(change=_lowercased), "normalised by Lowercase"),
        (_small(change=_split_by_words), "2 patterns in turn"),
        (_small(change=_spaces_added), "some of its words are added tokens"),
        (_small(unk_token="a"), "no byte-level BPE"),
        (_small([("a", "b"), ("b", "c"), ("ab", "c"), ("a", "e"), ("a", "bc")]), "several merges of unlike rank"),
        (_small([("b", "c"), ("a", "b"), ("ab", "c")], first_ids=("abc",)), "do not always make its token 'abc'"),
    ],
)
def test_other_vocabularies_stay_slow_and_say_why(tokenizer: Tokenizer, reason: str) -> None:
    assert tokenizer.encoder.startswith("tokenizers: ")
    assert reason in tokenizer.encoder
    _assert_encoded_alike(tokenizer, ["abc de", " a1b22   c", "xabcd"])


def test_a_vocabulary_that_fails_a_probe_stays_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the difference is: here, an encoder that loses its last token."""
    backend = QWEN3.tokenizer.backend
    encode = FastBPE.encode
    monkeypatch.setattr(FastBPE, "encode", lambda self, text: (encode(self, text) or [])[:-1] or None)
    tokenizer = Tokenizer(backend)
    assert "differently" in tokenizer.encoder
    assert tokenizer.encode_text("Hello there") == tokenizer.encode_like_model("Hello there")


def test_spelled_like_the_vocabularys_own_file() -> None:
    """Merges are pairs in new files and lines in old ones; both are read."""
    description = json.loads(_small().backend.to_str())
    description["model"]["merges"] = [" ".join(pair) for pair in description["model"]["merges"]]
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(description)))
    assert tokenizer.encoder == "tiktoken"
    _assert_encoded_alike(tokenizer, ["abc ab", "de"])
