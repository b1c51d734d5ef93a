"""Hermes 2 Pro to 4."""

from typing import Any

from tests.materials import LLAMA3, extended, template
from tests.materials import QWEN3 as QWEN3_VOCABULARY
from tests.renderers.subjects.qwen import ORPHAN
from tests.renderers.subjects.subject import SCHEMAS, Conversation, Deviation, Limits, Subject

_TAGS = tuple(f"<{slash}{tag}>" for tag in ("tools", "tool_call", "tool_response", "think") for slash in ("", "/"))
_TURNS = ("<|im_start|>", "<|im_end|>")
#: Llama 3's, as Nous Research and Hugging Face use it for ChatML.
LLAMA3_CHATML = extended(LLAMA3, (*_TURNS, *_TAGS), eos_token="<|im_end|>")
_LLAMA3_TAGGED = extended(LLAMA3, _TAGS)

HERMES2 = "hermes-2-pro"
HERMES3 = "hermes-3"
HERMES4 = "hermes-4"
HERMES4_KEEPING = "hermes-4, thoughts kept"
HERMES4_LLAMA = "hermes-4-llama"


def _with_tool_use(name: str) -> str:
    """``transformers`` takes the template of this name where there are tools."""
    tool_use = template("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use").rstrip("\n")
    return "{% if tools %}" + tool_use + "{% else %}" + template(name).rstrip("\n") + "{% endif %}"


def _is_declared(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", [])
    return not {"null", "enum"}.intersection([kinds] if isinstance(kinds, str) else kinds)


def _expresses(conversation: Conversation) -> bool:
    """With tools whose parameters have a type that the template knows; calls and results only with tools."""
    functions = [tool["function"] for tool in conversation.tools or ()]
    schemas = [schema for one in functions for schema in one["parameters"]["properties"].values()]
    called = any(message["role"] == "tool" or "tool_calls" in message for message in conversation.messages)
    return all(map(_is_declared, schemas)) and bool(conversation.tools or not called)


def _said_nothing(conversation: Conversation) -> bool:
    return any(
        message["role"] == "assistant" and not message["content"] and not message.get("tool_calls")
        for message in conversation.messages
    )


_EMPTY_ANSWER = Deviation(
    "hermes-4-empty-answer",
    "behind an empty answer the template leaves out the token that closes the turn",
    "test_an_empty_answer_is_closed",
    _said_nothing,
)
_TOOL_USE = Limits(schemas=SCHEMAS - {"bare"}, expresses=_expresses)
_HERMES4 = (_EMPTY_ANSWER,)

SUBJECTS = (
    Subject(
        HERMES2,
        HERMES2,
        LLAMA3_CHATML,
        lambda: _with_tool_use("tiiuae-falcon-mamba-tiny-dev"),
        limits=_TOOL_USE,
        deviations=(ORPHAN,),
    ),
    Subject(
        HERMES3,
        HERMES3,
        LLAMA3_CHATML,
        lambda: _with_tool_use("NousResearch-Hermes-3-Llama-3.1-8B"),
        limits=_TOOL_USE,
        deviations=(ORPHAN,),
    ),
    Subject(HERMES4, HERMES4, QWEN3_VOCABULARY, "NousResearch-Hermes-4-14B", deviations=_HERMES4),
    Subject(
        HERMES4_KEEPING,
        HERMES4,
        QWEN3_VOCABULARY,
        "NousResearch-Hermes-4-14B",
        {"thinking": True, "keep_cots": True},
        {"thinking": True, "keep_cots": True},
        deviations=_HERMES4,
    ),
    Subject(HERMES4_LLAMA, HERMES4_LLAMA, _LLAMA3_TAGGED, "NousResearch-Hermes-4.3-36B", deviations=_HERMES4),
)
