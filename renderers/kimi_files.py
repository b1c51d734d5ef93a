"""Kimi's directories as they are shipped: ``tiktoken.model``, and a program that reads it, which is never run.

Sources: ``tokenization_kimi.py`` of moonshotai/Kimi-K2-Instruct, Kimi-K2-Thinking, Kimi-K2.5 and
Kimi-Linear-48B-A3B-Instruct, which are alike in what is taken from them: the split pattern, and 256 control tokens
after the words, each with a name in ``tokenizer_config.json`` or none.
"""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tickertape.renderers.errors import TokenizerError
from tickertape.renderers.vocabulary import byte_level_alphabet

RANKS = "tiktoken.model"
_PROGRAM = "tokenization_kimi"
_CAPITALS, _SMALL = (rf"[\p{{{case}}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^\p{{Han}}]]" for case in ("Lu", "Ll"))
_SMALL = _SMALL.replace(r"\p{Lt}", "")
_ENDING = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PATTERN = "|".join(
    [
        r"[\p{Han}]+",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}*{_SMALL}+{_ENDING}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}+{_SMALL}*{_ENDING}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
_N_CONTROL = 256


def read_kimi(directory: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer | None:
    """The tokenizer of a directory with Kimi's ranks and no ``tokenizer.json``; ``None`` for any other.

    Args:
        directory: of the model.
        config: its ``tokenizer_config.json``.

    Raises:
        TokenizerError: the ranks cannot be read, or are those of a program that is not known here.
    """
    if (directory / "tokenizer.json").is_file() or not (directory / RANKS).is_file():
        return None
    if _PROGRAM not in str(config.get("auto_map")) and not (directory / f"{_PROGRAM}.py").is_file():
        raise TokenizerError(
            f"{directory}: {RANKS} does not say how text is split, which a program of the model's own does; it is not "
            "run. Give a directory with a tokenizer.json that was made by it"
        )
    ranks = _ranks(directory / RANKS)
    spelled = {byte[0]: char for char, byte in byte_level_alphabet().items()}
    words = {token: "".join(map(spelled.__getitem__, token)) for token in ranks}
    merges = [(words[left], words[right]) for left, right in _merges(ranks)]
    vocab = {words[token]: rank for token, rank in ranks.items()}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(tokenizers.Regex(_PATTERN), behavior="isolated")
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, by_bytes])
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(list(_control(config, len(ranks))))
    return backend


def _ranks(file: Path) -> dict[bytes, int]:
    """The words of the vocabulary, one a line: base64, and the id."""
    try:
        lines = [line.split() for line in file.read_bytes().splitlines() if line]
        return {base64.b64decode(token): int(rank) for token, rank in lines}
    except ValueError as error:
        raise TokenizerError(f"{file} is no file of ranks: {error}") from error


def _merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of words that joins to a third, in the order of the third."""
    found = []
    for token, rank in ranks.items():
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        found += [
            (rank, ranks[left], ranks[right], left, right) for left, right in cuts if left in ranks and right in ranks
        ]
    found.sort()
    return [(left, right) for *_, left, right in found]


def _control(config: Mapping[str, Any], first: int) -> Iterator[tokenizers.AddedToken]:
    named = config.get("added_tokens_decoder") or {}
    last = max([first + _N_CONTROL, *(int(number) + 1 for number in named)])
    for i in range(first, last):
        token = named.get(str(i)) or {}
        text = token.get("content", f"<|reserved_token_{i}|>")
        yield tokenizers.AddedToken(text, special=token.get("special", True), normalized=False)
