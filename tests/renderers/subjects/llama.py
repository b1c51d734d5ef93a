"""Llama 3: the vocabulary is that of 3.0, to which 3.1 added two tokens in reserved places."""

from tests.materials import LLAMA3 as LLAMA3_VOCABULARY
from tests.materials import extended
from tests.renderers.subjects.subject import TODAY, Conversation, Limits, Subject

LLAMA3 = "llama3"
LLAMA31 = "llama3.1"
LLAMA31_SYSTEM_TOOLS = "llama3.1, tools in the system message"
LLAMA32 = "llama3.2"

_VOCABULARY_31 = extended(LLAMA3_VOCABULARY, ("<|eom_id|>", "<|python_tag|>"))
_TEMPLATE_31 = "meta-llama-Llama-3.1-8B-Instruct"
_IN_SYSTEM = {"tools_in_user_message": False}


def _has_turns(conversation: Conversation) -> bool:
    """The template shows tools in the first message behind the system message, and refuses where there is none."""
    return [message["role"] for message in conversation.messages] != ["system"]


_LIMITS_31 = Limits(parallel=False, reasoning=False, expresses=_has_turns)

SUBJECTS = (
    Subject(
        LLAMA3,
        "llama3",
        LLAMA3_VOCABULARY,
        "NousResearch-Meta-Llama-3-8B-Instruct",
        limits=Limits(tools=False, calls=False, reasoning=False),
    ),
    Subject(LLAMA31, "llama3.1", _VOCABULARY_31, _TEMPLATE_31, limits=_LIMITS_31),
    Subject(LLAMA31_SYSTEM_TOOLS, "llama3.1", _VOCABULARY_31, _TEMPLATE_31, _IN_SYSTEM, _IN_SYSTEM, limits=_LIMITS_31),
    Subject(
        LLAMA32,
        "llama3.1",
        _VOCABULARY_31,
        "meta-llama-Llama-3.2-3B-Instruct",
        family_options={"date_string": f"{TODAY:%d %b %Y}"},
        limits=_LIMITS_31,
    ),
)
