"""Granite 4.0 and 4.1."""

from tests.materials import borrowed
from tests.renderers.subjects.subject import Limits, Subject

_VOCABULARY = borrowed(
    (
        *("<|end_of_text|>", "<|pad|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
        *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
        *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    ),
    bos_token="<|end_of_text|>",
    eos_token="<|end_of_text|>",
)
_LIMITS = Limits(reasoning=False)

SUBJECTS = (
    Subject("granite-4.0", "granite-4.0", _VOCABULARY, "ibm-granite-granite-4.0", limits=_LIMITS),
    Subject("granite-4.1", "granite-4.1", _VOCABULARY, "ibm-granite-granite-4.1", limits=_LIMITS),
)
