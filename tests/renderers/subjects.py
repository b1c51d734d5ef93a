"""The models that renderers are tested on, each with the oracle that says what its own template renders."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

from tests.materials import qwen3_dir, qwen25_dir
from tickertape.clients.engines.model_file import model_file
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.gguf import tokenizer_from_gguf
from tickertape.renderers.renderer import Renderer
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


class Oracle(Protocol):
    """What is used of a ``transformers`` tokenizer."""

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **options: Any) -> Any: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True)
class Subject:
    """One model: its tokenizer twice (ours and ``transformers``'), its family, and the options that both are given."""

    name: str
    family: str
    tokenizer: Tokenizer
    oracle: Oracle
    family_options: Mapping[str, Any] = field(default_factory=dict)
    template_options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def renderers(self) -> dict[str, Renderer]:
        """The family and the model's own template, driven by us."""
        return {
            FAMILY: get_renderer(self.family, self.tokenizer, **self.family_options),
            TEMPLATE: get_renderer(TEMPLATE, self.tokenizer, **self.template_options),
        }

    def template_ids(
        self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """The prompt's ids as ``transformers`` has them."""
        ids: list[int] = self.oracle.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **self.template_options,
        )
        return ids

    def template_text(
        self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """The prompt's text as ``transformers`` has it."""
        text: str = self.oracle.apply_chat_template(
            messages, tools=tools, add_generation_prompt=True, tokenize=False, **self.template_options
        )
        return text

    def spell(self, text: str) -> list[int]:
        """Ids of a text in which control tokens mean themselves: what a model would have sampled."""
        return self.oracle.encode(text, add_special_tokens=False)

    def control_counts(self, token_ids: Iterable[int]) -> Counter[str]:
        """How often each control token stands in ``token_ids``."""
        return Counter(self.tokenizer.decode([i]) for i in token_ids if i in self.tokenizer.control_ids)


@cache
def subject_named(name: str) -> Subject:
    """The model of that name, loaded once."""
    if name == SMOLLM2:
        return _smollm2()
    directories = {
        QWEN3: qwen3_dir(),
        QWEN3_SILENT: qwen3_dir(),
        INSTRUCT: qwen3_dir("Qwen-Qwen3-4B-Instruct-2507"),
        THINKING: qwen3_dir("Qwen-Qwen3-4B-Thinking-2507"),
        QWEN25: qwen25_dir(),
    }
    options = {"enable_thinking": False} if name == QWEN3_SILENT else {}
    family = QWEN3 if name == QWEN3_SILENT else name
    tokenizer, oracle = _load(directories[name])
    return Subject(name, family, tokenizer, oracle, options, options)


@cache
def _load(directory: Path) -> tuple[Tokenizer, Oracle]:
    import transformers

    return Tokenizer.load(directory), transformers.AutoTokenizer.from_pretrained(directory)


def _smollm2() -> Subject:
    import transformers

    tokenizer = tokenizer_from_gguf(model_file())
    oracle = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend, chat_template=tokenizer.chat_template
    )
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    return Subject(SMOLLM2, "chatml", tokenizer, oracle, {"default_system": default})
