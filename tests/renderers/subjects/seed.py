"""Seed-OSS."""

from typing import Any

from tests.materials import borrowed
from tests.renderers.subjects.subject import SCHEMAS, Limits, Subject

_VOCABULARY = borrowed(
    (
        *("<seed:bos>", "<seed:pad>", "<seed:eos>", "<seed:think>", "</seed:think>"),
        *("<seed:tool_call>", "</seed:tool_call>", "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>"),
    ),
    bos_token="<seed:bos>",
    eos_token="<seed:eos>",
)
_LIMITS = Limits(schemas=SCHEMAS - {"bare"})


def _subject(name: str, **options: Any) -> Subject:
    return Subject(name, "seed-oss", _VOCABULARY, "ByteDance-Seed-OSS", options, options, _LIMITS)


SUBJECTS = (
    _subject("seed-oss"),
    _subject("seed-oss, budget 0", thinking_budget=0),
    _subject("seed-oss, budget 1000", thinking_budget=1000),
    _subject("seed-oss, tools as JSON", use_json_tooldef=True),
)
