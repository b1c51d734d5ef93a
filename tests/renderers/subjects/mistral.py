"""Mistral's models by tokenizer version, on a borrowed vocabulary: their own is not to be had from a package."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from tests.materials import Vocabulary, borrowed, template
from tests.renderers.subjects.subject import Conversation, Limits, Subject, on_that_day
from tickertape.renderers.families.mistral import MistralV3, MistralV7, MistralV11
from tickertape.renderers.families.mistral_v13 import MistralSmall4, MistralV13, MistralV13Reasoning

V3 = "mistral-v3"
V3_TEKKEN = "mistral-v3-tekken"
V7 = "mistral-v7"
V11 = "mistral-v11"
V13 = "mistral-v13"
DEVSTRAL2 = "mistral-v13, Devstral 2"
V13_REASONING = "mistral-v13-reasoning"
LARGE3 = "mistral-v13-reasoning, Large 3"
SMALL4 = "mistral-small-4"
SMALL4_THINKING = "mistral-small-4, thinking"

_PAIRS = ("[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")


def _vocabulary(markers: tuple[str, ...]) -> Vocabulary:
    return borrowed(("<unk>", *markers, *_PAIRS), bos_token="<s>", eos_token="</s>")


def _shown(family: type[MistralV7], template_name: str) -> Mapping[str, Any]:
    """The default system message, which is the template's own and may hold the date."""
    question = [{"role": "user", "content": "Hello."}]
    with on_that_day():
        rendered, _ = render_jinja_template([question], chat_template=template(template_name), bos_token="<s>")
    return family.options_shown(rendered[0])


def _counts_alternate(conversation: Conversation) -> bool:
    """The templates ask that user and assistant alternate, and do not count messages with calls."""
    counted = [
        m["role"] for m in conversation.messages if m["role"] in ("user", "assistant") and not m.get("tool_calls")
    ]
    return counted == (["user", "assistant"] * len(counted))[: len(counted)]


_BEFORE_V7 = Limits(
    reasoning=False, system="first", order="alternating", text_beside_calls=False, expresses=_counts_alternate
)


def _may_stand(conversation: Conversation) -> bool:
    """Where version 13 lets a role stand, and what it lets an assistant say."""
    roles: list[str | None] = [None, *(message["role"] for message in conversation.messages)]
    apart = {(None, "assistant"), (None, "tool"), ("system", "tool"), ("user", "tool"), *_SYSTEM_BEHIND_ANSWERS}
    says = [m for m in conversation.messages if m["role"] == "assistant"]
    return not apart & set(pairwise(roles)) and all(m["content"] or m.get("tool_calls") for m in says)


_SYSTEM_BEHIND_ANSWERS = {("assistant", "system"), ("tool", "system")}
_V13 = Limits(reasoning=False, expresses=_may_stand)
_V13_REASONING = Limits(expresses=_may_stand)
_HIGH = {"reasoning_effort": "high"}


def _v13(name: str, family: type[MistralV13], source: str, limits: Limits, **options: str) -> Subject:
    vocabulary = _vocabulary((*family.markers, *_V13_PAIRS))
    return Subject(name, family.name, vocabulary, source, {**_shown(family, source), **options}, options, limits)


_V13_PAIRS = ("[/SYSTEM_PROMPT]", "[/MODEL_SETTINGS]")

SUBJECTS = (
    Subject(V3, "mistral-v3", _vocabulary(MistralV3.markers), "mistralai-Mistral-7B-Instruct-v0.3", limits=_BEFORE_V7),
    Subject(
        V3_TEKKEN,
        "mistral-v3-tekken",
        _vocabulary(MistralV3.markers),
        "mistralai-Mistral-Nemo-Instruct-2407",
        limits=_BEFORE_V7,
    ),
    Subject(
        V7,
        "mistral-v7",
        _vocabulary(MistralV7.markers),
        "mistralai-Mistral-Small-3.1-24B-Instruct-2503",
        _shown(MistralV7, "mistralai-Mistral-Small-3.1-24B-Instruct-2503"),
        limits=Limits(tools=False, calls=False, reasoning=False),
    ),
    Subject(
        V11,
        "mistral-v11",
        _vocabulary(MistralV11.markers),
        "Mistral-Small-3.2-24B-Instruct-2506",
        _shown(MistralV11, "Mistral-Small-3.2-24B-Instruct-2506"),
        limits=_BEFORE_V7,
    ),
    _v13(V13, MistralV13, "mistralai-Ministral-3-14B-Instruct-2512", _V13),
    _v13(DEVSTRAL2, MistralV13, "mistralai-Devstral-Small-2-24B-Instruct-2512", _V13),
    _v13(V13_REASONING, MistralV13Reasoning, "mistralai-Ministral-3-3B-Reasoning-2512", _V13_REASONING),
    _v13(LARGE3, MistralV13Reasoning, "mistralai-Mistral-Large-3-675B-Instruct-2512", _V13_REASONING),
    _v13(SMALL4, MistralSmall4, "mistralai-Mistral-Small-4-119B-2603", _V13_REASONING),
    _v13(SMALL4_THINKING, MistralSmall4, "mistralai-Mistral-Medium-3.5-128B", _V13_REASONING, **_HIGH),
)
