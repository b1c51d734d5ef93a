"""Qwen2.5 and Qwen3."""

from tests.materials import QWEN3 as QWEN3_VOCABULARY
from tests.materials import QWEN25 as QWEN25_VOCABULARY
from tests.renderers.subjects.subject import Subject

QWEN3 = "qwen3"
QWEN3_SILENT = "qwen3, thinking off"
INSTRUCT = "qwen3-instruct-2507"
THINKING = "qwen3-thinking-2507"
QWEN25 = "qwen2.5"

_SILENT = {"enable_thinking": False}

SUBJECTS = (
    Subject(QWEN3, "qwen3", QWEN3_VOCABULARY, "Qwen-Qwen3-0.6B"),
    Subject(QWEN3_SILENT, "qwen3", QWEN3_VOCABULARY, "Qwen-Qwen3-0.6B", _SILENT, _SILENT),
    Subject(INSTRUCT, "qwen3-instruct-2507", QWEN3_VOCABULARY, "Qwen-Qwen3-4B-Instruct-2507"),
    Subject(THINKING, "qwen3-thinking-2507", QWEN3_VOCABULARY, "Qwen-Qwen3-4B-Thinking-2507"),
    Subject(QWEN25, "qwen2.5", QWEN25_VOCABULARY, "Qwen-Qwen2.5-7B-Instruct"),
)
