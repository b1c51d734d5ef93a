"""Vocabularies with the same words, which are read once: each has control tokens of its own."""

from collections.abc import Iterable

import tokenizers


def sharing_words(backend: tokenizers.Tokenizer, added: Iterable[tokenizers.AddedToken]) -> tokenizers.Tokenizer:
    """Makes a tokenizer of the words of another, not copied, and of these added tokens, which get the next ids."""
    made = tokenizers.Tokenizer(backend.model)
    made.normalizer, made.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    made.post_processor, made.decoder = backend.post_processor, backend.decoder
    made.add_tokens(list(added))
    return made


def added_tokens(backend: tokenizers.Tokenizer) -> dict[int, tokenizers.AddedToken]:
    """The added tokens by their ids, in ascending order."""
    return dict(sorted(backend.get_added_tokens_decoder().items()))


def spelled_out(texts: Iterable[str]) -> list[tokenizers.AddedToken]:
    """Added tokens that stand for themselves wherever they are spelled."""
    return [tokenizers.AddedToken(text, special=True, normalized=False) for text in texts]
