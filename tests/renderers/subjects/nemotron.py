"""Nemotron 3: Nano, Super and Ultra, and Cascade 2, which is made of Nano."""

from typing import Any

from tests.materials import NEMOTRON3
from tests.renderers.subjects.subject import Conversation, Deviation, Limits, Subject


def _begins_with_a_result(conversation: Conversation) -> bool:
    turns = [message["role"] for message in conversation.messages]
    return turns[turns[0] == "system" :][:1] == ["tool"]


_DEVIATIONS = (
    Deviation(
        "orphan-result",
        "a tool result that begins a conversation gets a turn of its own; the template prints its words outside any",
        "test_a_result_at_the_beginning_has_a_role",
        _begins_with_a_result,
    ),
)
_NANO = "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
_SUPER = "trl-internal-testing-tiny-NemotronHForCausalLM-super"
_ULTRA = "trl-internal-testing-tiny-NemotronHForCausalLM-ultra"
_SILENT = {"enable_thinking": False}
_KEPT = {"truncate_history_thinking": False}
_LOW = {"low_effort": True}
_MEDIUM = {"medium_effort": True}
_CASCADE = {"default_system": "You are a helpful and harmless assistant.\n\nYou are not allowed to use any tools."}


def _subject(name: str, template: str, options: dict[str, Any] | None = None, ultra: bool = False) -> Subject:
    family = "nemotron-3-ultra" if ultra else "nemotron-3"
    return Subject(name, family, NEMOTRON3, template, options or {}, options or {}, Limits(), _DEVIATIONS)


SUBJECTS = (
    _subject("nemotron-3-nano", _NANO),
    _subject("nemotron-3-nano, thinking off", _NANO, _SILENT),
    _subject("nemotron-3-nano, thoughts kept", _NANO, _KEPT),
    _subject("nemotron-3-nano, unsloth", "unsloth-NVIDIA-Nemotron-3-Nano-4B"),
    _subject("nemotron-3-super", _SUPER),
    _subject("nemotron-3-super, low effort", _SUPER, _LOW),
    _subject("nemotron-3-ultra", _ULTRA, ultra=True),
    _subject("nemotron-3-ultra, thinking off", _ULTRA, _SILENT, ultra=True),
    _subject("nemotron-3-ultra, medium effort", _ULTRA, _MEDIUM | _KEPT, ultra=True),
    Subject(
        "nemotron-cascade-2",
        "nemotron-3",
        NEMOTRON3,
        "nvidia-Nemotron-Cascade-2-30B-A3B",
        _CASCADE,
        deviations=_DEVIATIONS,
    ),
)
