"""The vocabularies that the families are tested on: ours encodes like ``transformers``, Gemma 4's like llama.cpp."""

import pytest

from tests.materials import GEMMA4, REAL, Vocabulary, borrowed
from tests.materials.fetch import llama_cpp_vocabulary

_BORROWED = borrowed(["<|start_of_role|>", "[INST]"], bos_token="<s>", eos_token="</s>")

_SAMPLE = "Köln 𓀀 漢字  two   spaces\n\n\n\tit's 12345:\n    return {'a': 1}\r\n 👩‍👩‍👧‍👦 العربية\u00a0."


@pytest.mark.parametrize("vocabulary", [*REAL, _BORROWED], ids=repr)
def test_a_vocabulary_encodes_words_like_transformers_and_gives_them_back(vocabulary: Vocabulary) -> None:
    ids = vocabulary.tokenizer.encode_text(_SAMPLE)
    assert ids == vocabulary.oracle.encode(_SAMPLE, add_special_tokens=False)
    assert vocabulary.tokenizer.decode(ids) == _SAMPLE


@pytest.mark.parametrize("vocabulary", [*REAL, _BORROWED], ids=repr)
def test_a_vocabulary_knows_its_special_tokens_as_control_tokens(vocabulary: Vocabulary) -> None:
    tokenizer = vocabulary.tokenizer
    for token in tokenizer.special_tokens.values():
        assert vocabulary.oracle.encode(token, add_special_tokens=False) == [tokenizer.control[token]]
        assert tokenizer.control[token] not in tokenizer.encode_text(token)


def test_gemma4_read_from_a_gguf_file_encodes_like_llama_cpp() -> None:
    """Against the vectors that llama.cpp tests itself with: a text, and its ids, per entry."""
    file = llama_cpp_vocabulary("gemma-4")
    given = file.with_suffix(".gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    expected = [[int(i) for i in line.split()] for line in file.with_suffix(".gguf.out").read_text().split("\n")]
    assert len(given) == 46
    assert [GEMMA4.tokenizer.encode_like_model(text) for text in given] == expected[: len(given)]
