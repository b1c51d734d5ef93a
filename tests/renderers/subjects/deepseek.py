"""DeepSeek's models and R1's distills: real vocabularies, but for R1's ``<think>`` and the distills' turn markers."""

from tests.materials import DEEPSEEK_V3, DEEPSEEK_V4, LLAMA3, QWEN25, renamed
from tests.renderers.subjects.subject import Limits, Subject

V3 = "deepseek-v3"
V31 = "deepseek-v3.1"
V31_THINKING = "deepseek-v3.1, thinking"
V31_LLAMA_CPP = "deepseek-v3.1, llama.cpp's template"
V32 = "deepseek-v3.2"
V32_THINKING = "deepseek-v3.2, thinking"
V4 = "deepseek-v4"
V4_THINKING = "deepseek-v4, thinking"
V4_DROPPING = "deepseek-v4, dropping thoughts"
R1 = "deepseek-r1"
R1_0528 = "deepseek-r1-0528"
R1_1776 = "r1-1776"
DISTILL_QWEN = "deepseek-r1-distill, Qwen"
DISTILL_LLAMA = "deepseek-r1-distill, Llama"
DISTILL_UNOPENED = "deepseek-r1-distill-unopened"
V4_UNSLOTH = "deepseek-v4-unsloth"
V4_UNSLOTH_THINKING = "deepseek-v4-unsloth, thinking hard"
V4_ENCODER = "deepseek-v4-encoder"
V4_ENCODER_CHAT = "deepseek-v4-encoder, chat"
DSML = (V32, V32_THINKING, V4, V4_THINKING, V4_DROPPING, V4_UNSLOTH, V4_UNSLOTH_THINKING, V4_ENCODER, V4_ENCODER_CHAT)
THOUGHTFUL = (R1, R1_0528, R1_1776, DISTILL_QWEN, DISTILL_LLAMA, DISTILL_UNOPENED)

R1_VOCABULARY = renamed(DEEPSEEK_V3, {128798: "<think>", 128799: "</think>"})
_BEGIN, _END, _USER, _ASSISTANT = (
    f"<｜{name}｜>" for name in ("begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant")
)
_SPECIAL = {"bos_token": _BEGIN, "eos_token": _END, "pad_token": _END}
_QWEN_DISTILL = renamed(
    QWEN25,
    dict(enumerate((_END, _USER, _ASSISTANT, _BEGIN, "<|EOT|>", "<think>", "</think>"), start=151643)),
    **_SPECIAL,
)
_LLAMA_DISTILL = renamed(
    LLAMA3,
    {128000: _BEGIN, 128001: _END, 128011: _USER, 128012: _ASSISTANT, 128013: "<think>", 128014: "</think>"},
    **_SPECIAL,
)

_JSON_TEXT = Limits(tools=False, arguments="text")
_IN_ORDER = Limits(order="results_after_calls")
_DROPPING = {"thinking": True, "drop_thinking": True}
_THINKING = {"thinking": True}
_ONE_SYSTEM = Limits(system="first")
_TOOLS_FIRST = Limits(
    expresses=lambda conversation: (
        not conversation.tools
        or conversation.messages[0]["role"] == "system"
        or all(message["role"] != "system" for message in conversation.messages)
    )
)
_HARD = {"thinking": True, "reasoning_effort": "max"}
_CHAT = {"thinking_mode": "chat"}


SUBJECTS = (
    Subject(V3, "deepseek-v3", DEEPSEEK_V3, "yujiepan-deepseek-v3-tiny-random", limits=_JSON_TEXT),
    Subject(R1, "deepseek-r1", R1_VOCABULARY, "microsoft-MAI-DS-R1", limits=_JSON_TEXT),
    Subject(
        R1_0528,
        "deepseek-r1-0528",
        R1_VOCABULARY,
        "trl-internal-testing-tiny-DeepseekV3ForCausalLM-0528",
        limits=_JSON_TEXT,
    ),
    Subject(R1_1776, "r1-1776", R1_VOCABULARY, "unsloth-r1-1776", limits=_JSON_TEXT),
    Subject(
        DISTILL_QWEN,
        "deepseek-r1-distill",
        _QWEN_DISTILL,
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B@56a144",
        limits=_JSON_TEXT,
    ),
    Subject(
        DISTILL_LLAMA,
        "deepseek-r1-distill",
        _LLAMA_DISTILL,
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        limits=_JSON_TEXT,
    ),
    Subject(
        DISTILL_UNOPENED,
        "deepseek-r1-distill-unopened",
        _QWEN_DISTILL,
        "stepfun-ai-StepFun-Formalizer-7B",
        limits=_JSON_TEXT,
    ),
    Subject(V31, "deepseek-v3.1", R1_VOCABULARY, "tencent-DeepSeek-V3.1-Terminus-W4AFP8", limits=_JSON_TEXT),
    Subject(
        V31_THINKING,
        "deepseek-v3.1",
        R1_VOCABULARY,
        "tencent-DeepSeek-V3.1-Terminus-W4AFP8",
        _THINKING,
        _THINKING,
        limits=_JSON_TEXT,
    ),
    Subject(
        V31_LLAMA_CPP,
        "deepseek-v3.1-empty-thought",
        R1_VOCABULARY,
        "deepseek-ai-DeepSeek-V3.1",
        limits=Limits(tools=False),
    ),
    Subject(V32, "deepseek-v3.2", R1_VOCABULARY, "deepseek-ai-DeepSeek-V3.2", limits=_IN_ORDER),
    Subject(V32_THINKING, "deepseek-v3.2", R1_VOCABULARY, "deepseek-ai-DeepSeek-V3.2", _THINKING, _THINKING, _IN_ORDER),
    Subject(V4, "deepseek-v4", DEEPSEEK_V4, "deepseek-ai-DeepSeek-V4"),
    Subject(V4_THINKING, "deepseek-v4", DEEPSEEK_V4, "deepseek-ai-DeepSeek-V4", _THINKING, _THINKING),
    Subject(V4_UNSLOTH, "deepseek-v4-unsloth", DEEPSEEK_V4, "unsloth-DeepSeek-V4-Flash", limits=_ONE_SYSTEM),
    Subject(
        V4_UNSLOTH_THINKING, "deepseek-v4-unsloth", DEEPSEEK_V4, "unsloth-DeepSeek-V4-Flash", _HARD, _HARD, _ONE_SYSTEM
    ),
    Subject(V4_ENCODER, "deepseek-v4-encoder", DEEPSEEK_V4, "crusoeai-DeepSeek-V4-Flash", limits=_TOOLS_FIRST),
    Subject(
        V4_ENCODER_CHAT,
        "deepseek-v4-encoder",
        DEEPSEEK_V4,
        "crusoeai-DeepSeek-V4-Flash",
        _CHAT,
        _CHAT,
        _TOOLS_FIRST,
    ),
    Subject(V4_DROPPING, "deepseek-v4", DEEPSEEK_V4, "deepseek-ai-DeepSeek-V4", _DROPPING, _DROPPING),
)
