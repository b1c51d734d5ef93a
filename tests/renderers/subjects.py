"""The models that renderers are tested on, each with the oracle that says what its own template renders."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Protocol

import tokenizers

from tests.materials import qwen3_dir, qwen25_dir, template
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.template import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer

OpenAIMessage = dict[str, Any]

QWEN3 = "qwen3"
QWEN3_SILENT = "qwen3, thinking off"
INSTRUCT = "qwen3-instruct-2507"
THINKING = "qwen3-thinking-2507"
QWEN25 = "qwen2.5"
SMOLLM2 = "chatml, SmolLM2"

QWENS = (QWEN3, QWEN3_SILENT, INSTRUCT, THINKING, QWEN25)
MODELS = (*QWENS, SMOLLM2)

FAMILY = "family"
TEMPLATE = "template"
KINDS = (FAMILY, TEMPLATE)

_TEMPLATES = {
    QWEN3: "Qwen-Qwen3-0.6B",
    QWEN3_SILENT: "Qwen-Qwen3-0.6B",
    INSTRUCT: "Qwen-Qwen3-4B-Instruct-2507",
    THINKING: "Qwen-Qwen3-4B-Thinking-2507",
    QWEN25: "Qwen-Qwen2.5-7B-Instruct",
}


class Oracle(Protocol):
    """What is used of a ``transformers`` tokenizer."""

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **options: Any) -> Any: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, repr=False)
class Subject:
    """One model: its tokenizer twice (ours and ``transformers``'), its template, and the family that fits."""

    name: str
    family: str
    tokenizer: Tokenizer
    oracle: Oracle
    template: str
    family_options: Mapping[str, Any] = field(default_factory=dict)
    template_options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows it, which would print every field otherwise."""
        printer.text(repr(self))

    @property
    def offers_tools(self) -> bool:
        """Whether the model's template knows tools; SmolLM2's shows neither tools nor calls."""
        return self.name != SMOLLM2

    @cached_property
    def renderers(self) -> dict[str, Renderer]:
        """The family and the model's own template, driven by us."""
        return {
            FAMILY: get_renderer(self.family, self.tokenizer, **self.family_options),
            TEMPLATE: get_renderer(TEMPLATE, self.tokenizer, template=self.template, **self.template_options),
        }

    def template_ids(
        self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """The prompt's ids as ``transformers`` has them."""
        ids: list[int] = self._apply(messages, tools, tokenize=True, return_dict=False)
        return ids

    def template_text(self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt's text as ``transformers`` has it."""
        text: str = self._apply(messages, tools, tokenize=False)
        return text

    def _apply(
        self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None, **options: Any
    ) -> Any:
        return self.oracle.apply_chat_template(
            messages,
            tools=tools,
            chat_template=self.template,
            add_generation_prompt=True,
            **options,
            **self.template_options,
        )

    def spell(self, text: str) -> list[int]:
        """Ids of a text in which control tokens mean themselves: what a model would have sampled."""
        return self.oracle.encode(text, add_special_tokens=False)

    def control_counts(self, token_ids: Iterable[int]) -> Counter[str]:
        """How often each control token stands in ``token_ids``."""
        return control_counts(self.tokenizer, token_ids)


def control_counts(tokenizer: Tokenizer, token_ids: Iterable[int]) -> Counter[str]:
    """How often each control token of a vocabulary stands in ``token_ids``."""
    return Counter(tokenizer.decode([i]) for i in token_ids if i in tokenizer.control_ids)


@cache
def qwen(name: str) -> Subject:
    """The Qwen model of that name, loaded once."""
    tokenizer, oracle = _load_qwen(has_thinking=name != QWEN25)
    options = {"enable_thinking": False} if name == QWEN3_SILENT else {}
    family = QWEN3 if name == QWEN3_SILENT else name
    return Subject(name, family, tokenizer, oracle, template(_TEMPLATES[name]), options, options)


@cache
def _load_qwen(*, has_thinking: bool) -> tuple[Tokenizer, Oracle]:
    import transformers

    oracle = transformers.AutoTokenizer.from_pretrained(qwen3_dir() if has_thinking else qwen25_dir())
    return Tokenizer.load(oracle), oracle


@cache
def smollm2(tokenizer: Tokenizer) -> Subject:
    """SmolLM2, whose tokenizer and template come out of its GGUF file."""
    import transformers

    assert tokenizer.chat_template is not None
    oracle = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend)
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    return Subject(SMOLLM2, "chatml", tokenizer, oracle, tokenizer.chat_template, {"default_system": default})


#: Turn markers of other families: Llama 3, Gemma, Phi and GLM, Mistral, DeepSeek, Kimi, gpt-oss, Granite, MiniMax.
GUEST_MARKERS = (
    *(
        f"<|{name}|>"
        for name in ("begin_of_text", "start_header_id", "end_header_id", "eot_id", "eom_id", "python_tag")
    ),
    *("<start_of_turn>", "<end_of_turn>"),
    *(f"<|{name}|>" for name in ("system", "user", "assistant", "observation", "end")),
    *("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    *(f"<｜{name}｜>" for name in ("begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant", "tool▁call▁begin")),
    *(f"<|im_{name}|>" for name in ("system", "user", "assistant", "middle")),
    *(f"<|{name}|>" for name in ("start", "message", "channel", "call", "return")),
    *("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "]~b]", "[e~["),
)


@cache
def guest_tokenizer() -> Tokenizer:
    """A vocabulary for the templates of others: Qwen3's with their turn markers, and with a token that begins texts."""
    backend = tokenizers.Tokenizer.from_str(qwen(QWEN3).tokenizer.backend.to_str())
    backend.add_tokens([tokenizers.AddedToken(marker, special=True, normalized=False) for marker in GUEST_MARKERS])
    return Tokenizer(backend, special_tokens={"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}, name="guest")


def driven(template_name: str, **options: Any) -> TemplateRenderer:
    """Another model's template, driven with that vocabulary."""
    return TemplateRenderer(guest_tokenizer(), template=template(template_name), **options)


def with_template(source: str) -> Tokenizer:
    """That vocabulary as if a model with the template had it."""
    tokenizer = copy(guest_tokenizer())
    tokenizer.chat_template = source
    return tokenizer


def guest_text(
    template_name: str,
    messages: Sequence[OpenAIMessage],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    prompt: bool = True,
) -> str | None:
    """What ``transformers`` renders with another model's template, or ``None`` where that refuses."""
    try:
        text: str = qwen(QWEN3).oracle.apply_chat_template(
            messages,
            tools=tools,
            chat_template=template(template_name),
            add_generation_prompt=prompt,
            tokenize=False,
            bos_token="<|endoftext|>",
        )
    except Exception:  # noqa: BLE001 - a template is a program that raises what it likes
        return None
    return text
