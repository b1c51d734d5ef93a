"""Gemma 2, on Gemma 3's vocabulary, Gemma 3 and 4."""

from collections.abc import Mapping

from tests.materials import GEMMA3 as GEMMA3_VOCABULARY
from tests.materials import GEMMA4 as GEMMA4_VOCABULARY
from tests.renderers.subjects.subject import Limits, Subject

GEMMA3 = "gemma3"
GEMMA2 = "gemma2"
GEMMA4 = "gemma4"
GEMMA4_THINKING = "gemma4, thinking"
GEMMA4_PRESERVING = "gemma4, thinking, thoughts preserved"
GEMMA4E = "gemma4, E4B"
GEMMA4E_THINKING = "gemma4, E4B, thinking"

_LARGE, _SMALL = "google-gemma-4-26B-A4B-it", "google-gemma-4-E4B-it"


def _gemma4(name: str, source: str, *, family: Mapping[str, bool] | None = None, **options: bool) -> Subject:
    family_options, limits = {**options, **(family or {})}, Limits(order="results_after_calls")
    label = ("thought\n",)
    return Subject(name, "gemma4", GEMMA4_VOCABULARY, source, family_options, options, limits, own_words=label)


SUBJECTS = (
    Subject(
        GEMMA3,
        "gemma3",
        GEMMA3_VOCABULARY,
        "unsloth-gemma-3-270m-it",
        limits=Limits(tools=False, calls=False, reasoning=False, system="first", order="alternating"),
    ),
    Subject(
        GEMMA2,
        "gemma3",
        GEMMA3_VOCABULARY,
        "google-gemma-2-2b-it",
        limits=Limits(tools=False, calls=False, reasoning=False, system="nowhere", order="alternating"),
    ),
    _gemma4(GEMMA4, _LARGE),
    _gemma4(GEMMA4_THINKING, _LARGE, enable_thinking=True),
    _gemma4(GEMMA4_PRESERVING, _LARGE, enable_thinking=True, preserve_thinking=True),
    _gemma4(GEMMA4E, _SMALL, family={"shows_empty_thought": False}),
    _gemma4(GEMMA4E_THINKING, _SMALL, enable_thinking=True),
)
