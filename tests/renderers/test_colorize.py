"""Tokens for human eyes."""

import re

import pytest

from tests.renderers.subjects import QWEN3, Subject
from tickertape.renderers.colorize import PROMPT_COLOR, TRAINED_COLOR, format_colorized

RESET = "\x1b[0m"

pytestmark = pytest.mark.parametrize("subject", [QWEN3], indirect=True)


def test_prompt_and_trained_tokens_have_their_colours(subject: Subject) -> None:
    ids = subject.spell("<|im_start|>user\nHi<|im_end|>")
    shown = format_colorized(ids, [0, 0, 0, 1, 1], subject.tokenizer)
    assert shown == (f"{PROMPT_COLOR}<|im_start|>user↵{RESET}\n{PROMPT_COLOR}{RESET}{TRAINED_COLOR}Hi<|im_end|>{RESET}")


def test_any_weight_but_zero_counts_as_trained(subject: Subject) -> None:
    ids = subject.spell("a b")
    assert format_colorized(ids, [0.5, -1.0], subject.tokenizer) == f"{TRAINED_COLOR}a b{RESET}"


def test_without_its_colours_it_is_the_text(subject: Subject) -> None:
    text = "<|im_start|>user\n\nKöln 𓀀\n<|im_end|>\n"
    ids = subject.spell(text)
    shown = format_colorized(ids, [k % 3 == 0 for k in range(len(ids))], subject.tokenizer)
    assert shown.count("↵\x1b[0m\n") == text.count("\n")
    assert re.sub(r"\x1b\[[0-9;]*m|↵", "", shown).replace("\ufffd", "") in (text, text.replace("𓀀", ""))


def test_nothing_is_shown_of_nothing(subject: Subject) -> None:
    assert format_colorized([], [], subject.tokenizer) == ""


def test_tokens_without_weights_are_refused(subject: Subject) -> None:
    with pytest.raises(ValueError, match="zip"):
        format_colorized([1, 2], [1.0], subject.tokenizer)
