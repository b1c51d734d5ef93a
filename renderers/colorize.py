"""Tokens for human eyes: what was prompt in one colour, what is trained in another, newlines shown."""

from collections.abc import Sequence
from itertools import groupby

from tickertape.renderers.tokenizer import Tokenizer, TokenizerLike

PROMPT_COLOR = "\x1b[36m"
TRAINED_COLOR = "\x1b[1;33m"
RESET = "\x1b[0m"


def format_colorized(token_ids: Sequence[int], weights: Sequence[float], tokenizer: TokenizerLike) -> str:
    """Text with ANSI colours: cyan where the weight is 0, bold yellow where it is not. A newline shows as ``↵`` before
    it breaks the line.

    Args:
        token_ids: the tokens of a prompt, an example or a sample.
        weights: one for each token: loss weights or a loss mask.
        tokenizer: the model's.

    Raises:
        ValueError: the two have different lengths.
    """
    known = Tokenizer.load(tokenizer)
    runs = groupby(zip(token_ids, weights, strict=True), key=lambda pair: pair[1] != 0)
    return "".join(_paint(known.decode(i for i, _ in run), TRAINED_COLOR if on else PROMPT_COLOR) for on, run in runs)


def _paint(text: str, color: str) -> str:
    """``text`` in ``color``; the colour is set anew on each line, so that a pager cannot lose it."""
    return color + text.replace("\n", f"↵{RESET}\n{color}") + RESET
