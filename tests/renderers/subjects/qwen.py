"""Qwen2.5, Qwen3, Qwen3-Coder."""

from dataclasses import replace

from tests.materials import QWEN3 as QWEN3_VOCABULARY
from tests.materials import QWEN25 as QWEN25_VOCABULARY
from tests.materials import QWEN35 as QWEN35_VOCABULARY
from tests.renderers.subjects.subject import Conversation, Deviation, Limits, Subject

QWEN3 = "qwen3"
QWEN3_SILENT = "qwen3, thinking off"
INSTRUCT = "qwen3-instruct-2507"
THINKING = "qwen3-thinking-2507"
QWEN25 = "qwen2.5"
VL_INSTRUCT = "qwen3-vl-instruct"
VL_THINKING = "qwen3-thinking-2507, Qwen3-VL"
CODER = "qwen3-coder"
CODER_NEXT = "qwen3-coder-next"
QWEN35 = "qwen3.5"
QWEN35_SILENT = "qwen3.5, thinking off"
QWEN36 = "qwen3.6"
QWEN36_PRESERVING = "qwen3.6, thoughts preserved"


def _begins_with_a_result(conversation: Conversation) -> bool:
    return [message["role"] for message in conversation.messages][:1] == ["tool"]


def _begins_with_a_result_behind_its_system_message(conversation: Conversation) -> bool:
    roles = [message["role"] for message in conversation.messages]
    return _begins_with_a_result(conversation) or roles[:2] == ["system", "tool"]


#: Of templates that look at the message before a result without asking whether there is one.
ORPHAN = Deviation(
    "orphan-result",
    "a result that begins a conversation has no turn header in the template: its words would stand outside any turn",
    "test_a_result_that_begins_a_conversation_has_a_turn_of_its_own",
    _begins_with_a_result,
)
_CODER_ORPHAN = replace(ORPHAN, applies=_begins_with_a_result_behind_its_system_message)

_QWEN35_LIMITS = Limits(system="first", needs_user=True)
_SILENT = {"enable_thinking": False}

SUBJECTS = (
    Subject(QWEN3, "qwen3", QWEN3_VOCABULARY, "Qwen-Qwen3-0.6B"),
    Subject(QWEN3_SILENT, "qwen3", QWEN3_VOCABULARY, "Qwen-Qwen3-0.6B", _SILENT, _SILENT),
    Subject(INSTRUCT, "qwen3-instruct-2507", QWEN3_VOCABULARY, "Qwen-Qwen3-4B-Instruct-2507"),
    Subject(THINKING, "qwen3-thinking-2507", QWEN3_VOCABULARY, "Qwen-Qwen3-4B-Thinking-2507"),
    Subject(VL_INSTRUCT, VL_INSTRUCT, QWEN3_VOCABULARY, "Qwen-Qwen3-VL-8B-Instruct"),
    Subject(VL_THINKING, THINKING, QWEN3_VOCABULARY, "Qwen-Qwen3-VL-8B-Thinking"),
    Subject(CODER, CODER, QWEN3_VOCABULARY, "Qwen-Qwen3-Coder-30B-A3B-Instruct", deviations=(_CODER_ORPHAN,)),
    Subject(CODER_NEXT, CODER_NEXT, QWEN3_VOCABULARY, "Qwen-Qwen3-Coder-Next", deviations=(_CODER_ORPHAN,)),
    Subject(QWEN35, QWEN35, QWEN35_VOCABULARY, "Qwen3.5-4B", limits=_QWEN35_LIMITS, deviations=(ORPHAN,)),
    Subject(
        QWEN35_SILENT,
        QWEN35,
        QWEN35_VOCABULARY,
        "Qwen-Qwen3.5-0.8B",
        _SILENT,
        limits=_QWEN35_LIMITS,
        deviations=(ORPHAN,),
    ),
    Subject(QWEN36, QWEN36, QWEN35_VOCABULARY, "Qwen-Qwen3.6-35B-A3B", limits=_QWEN35_LIMITS, deviations=(ORPHAN,)),
    Subject(
        QWEN36_PRESERVING,
        QWEN36,
        QWEN35_VOCABULARY,
        "Qwen-Qwen3.6-35B-A3B",
        {"preserve_thinking": True},
        {"preserve_thinking": True},
        _QWEN35_LIMITS,
        (ORPHAN,),
    ),
    Subject(QWEN25, "qwen2.5", QWEN25_VOCABULARY, "Qwen-Qwen2.5-7B-Instruct"),
)
