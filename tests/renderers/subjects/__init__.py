"""The models that renderers are tested on, each with the oracle that says what its own template renders.

Each module of this package lists some in ``SUBJECTS``; a family joins the tests of parity, of the round trip and of
forgery with an entry there. How one is written says :class:`~tests.renderers.subjects.subject.Subject`.
"""

from importlib import import_module
from pkgutil import iter_modules

import pytest

from tests.renderers.subjects.guest import GUEST_MARKERS, driven, guest_text, guest_tokenizer, with_template
from tests.renderers.subjects.qwen import CODER, INSTRUCT, QWEN3, QWEN3_SILENT, QWEN25, THINKING
from tests.renderers.subjects.smollm import SMOLLM2
from tests.renderers.subjects.subject import (
    FAMILY,
    KINDS,
    SCHEMAS,
    TEMPLATE,
    TODAY,
    Conversation,
    Deviation,
    Limits,
    OpenAIMessage,
    Subject,
    control_counts,
    on_that_day,
)
from tickertape.renderers.families import FAMILIES

__all__ = [
    "CODER",
    "FAMILY",
    "GUEST_MARKERS",
    "INSTRUCT",
    "KINDS",
    "MODELS",
    "ONE_EACH",
    "QWEN3",
    "QWEN3_SILENT",
    "QWEN25",
    "QWENS",
    "SCHEMAS",
    "SMOLLM2",
    "SUBJECTS",
    "TEMPLATE",
    "THINKING",
    "TODAY",
    "Conversation",
    "Deviation",
    "Limits",
    "OpenAIMessage",
    "Subject",
    "control_counts",
    "driven",
    "each",
    "every",
    "first",
    "guest_text",
    "guest_tokenizer",
    "on_that_day",
    "qwen",
    "with_template",
]

_LISTED: list[Subject] = [
    subject
    for module in iter_modules(__path__, prefix=f"{__name__}.")
    for subject in getattr(import_module(module.name), "SUBJECTS", ())
]
#: Every subject by its name.
SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _LISTED}
assert len(SUBJECTS) == len(_LISTED), "two subjects have the same name"

QWENS = (QWEN3, QWEN3_SILENT, INSTRUCT, THINKING, QWEN25)
#: What tests run on that are about the machinery, not about a family's format.
MODELS = (*QWENS, SMOLLM2)


#: The first subject of each page of families, which stands for the page where the rest would take too long.
_FIRST = {FAMILIES[subject.family].__module__: subject.name for subject in reversed(SUBJECTS.values())}

#: Their names.
ONE_EACH = tuple(_FIRST.values())

#: Runs a test on a subject of each page of families: one that has a thorough twin, which is run on every subject.
first = pytest.mark.parametrize("subject", ONE_EACH, indirect=True)
#: Runs a test on a subject of each page of families; on all others too, marked slow.
each = pytest.mark.parametrize(
    "subject",
    [pytest.param(name, marks=() if name in _FIRST.values() else pytest.mark.slow) for name in SUBJECTS],
    indirect=True,
)
#: Runs a test, itself marked slow, on every subject.
every = pytest.mark.parametrize("subject", SUBJECTS, indirect=True)


def qwen(name: str) -> Subject:
    """The Qwen model of that name."""
    return SUBJECTS[name]
