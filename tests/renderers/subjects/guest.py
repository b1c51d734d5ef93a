"""A vocabulary for the templates of models whose own is not at hand: Qwen3's with their turn markers."""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any

from tests.materials import QWEN3, template
from tests.materials.sharing import added_tokens, sharing_words, spelled_out
from tests.renderers.subjects.subject import OpenAIMessage
from tickertape.renderers.kimi_tools import for_template
from tickertape.renderers.template.renderer import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer

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
    own = added_tokens(QWEN3.tokenizer.backend).values()
    backend = sharing_words(QWEN3.tokenizer.backend, (*own, *spelled_out(GUEST_MARKERS)))
    return Tokenizer(backend, special_tokens={"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}, name="guest")


def driven(template_name: str, **options: Any) -> TemplateRenderer:
    """Another model's template, driven with that vocabulary."""
    return TemplateRenderer(guest_tokenizer(), template=template(template_name), **options)


def with_template(source: str) -> Tokenizer:
    """That vocabulary as if a model with the template had it."""
    shared = guest_tokenizer()
    assert shared.encoder  # built here, once: copies of the tokenizer have it in common
    tokenizer = copy(shared)
    tokenizer.chat_template = source
    return tokenizer


def guest_text(
    template_name: str,
    messages: Sequence[OpenAIMessage],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    prompt: bool = True,
) -> str | None:
    """What ``transformers`` renders with another model's template, or ``None`` where that refuses. Kimi's templates are
    given tools as Kimi's own tokenizers give them."""
    offered, more = for_template(template(template_name), tools)
    try:
        text: str = QWEN3.oracle.apply_chat_template(
            messages,
            tools=offered,
            chat_template=template(template_name),
            add_generation_prompt=prompt,
            tokenize=False,
            bos_token="<|endoftext|>",
            **more,
        )
    except Exception:  # noqa: BLE001 - a template is a program that raises what it likes
        return None
    return text
