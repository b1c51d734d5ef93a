"""Single templates that do something of their own."""

from typing import Any

import pytest
import tokenizers

from tests.materials import template
from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import OpenAIMessage, driven, guest_text, guest_tokenizer
from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.template import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer

_TOOL = tool("look_up", "Looks a city up.", {"city": {"type": "string", "description": "its name"}})
_QUESTION = user("How is it in Rome?")
_SAID = "Fair and mild."
_NEXT = user("And tomorrow?")
_RESULT = tool_result("sunshine all day", name="look_up")


def test_thinking_is_switched_by_the_templates_own_variable() -> None:
    silent = driven("Qwen-Qwen3-0.6B", enable_thinking=False)
    prompt = silent.build_generation_prompt([_QUESTION])
    assert guest_tokenizer().decode(prompt.token_ids).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(RenderError, match="System role not supported"):
        driven("google-gemma-2-2b-it").build_generation_prompt([system("Be brief."), _QUESTION])
    with pytest.raises(RenderError, match="no messages"):
        driven("Qwen-Qwen3-0.6B").build_generation_prompt([])


def test_without_a_template_there_is_nothing_to_drive() -> None:
    with pytest.raises(RenderError, match="no chat template"):
        TemplateRenderer(guest_tokenizer())


def test_a_suffix_that_depends_on_the_history_is_refused() -> None:
    """Mistral puts the system message in front of the last user message, wherever that is."""
    renderer = driven("mistralai-Mistral-Nemo-Instruct-2407")
    assert renderer.bridge_to_next_turn([1], [2], [_NEXT]) is None
    with pytest.raises(BridgeRefused, match="depends on earlier messages"):
        renderer.bridge_suffix([2], [_NEXT])


@pytest.mark.parametrize(
    "name",
    ["HuggingFaceTB-SmolLM3-3B", "NVIDIA-Nemotron-Nano-v2", "nvidia-Llama-3_3-Nemotron-Super-49B-v1_5"],
)
def test_a_switch_in_an_earlier_message_is_not_forgotten(name: str) -> None:
    """``/no_think`` in the system message closes every thought in advance, in the bridged prompt as in the first."""
    renderer = driven(name)
    messages = [system("Be brief. /no_think"), _QUESTION]
    prompt = renderer.build_generation_prompt(messages).token_ids
    wrote = guest_tokenizer().encode_like_model(_SAID)
    bridged = renderer.bridge_to_next_turn(prompt, wrote, [_NEXT])
    anew = renderer.build_generation_prompt([*messages, assistant(_SAID), _NEXT]).token_ids
    opening = guest_tokenizer().decode(anew).rpartition("tomorrow?")[2]
    assert bridged is None or guest_tokenizer().decode(bridged.token_ids).endswith(opening)


@pytest.mark.parametrize("arguments", ['{"city": "Rome"}', {"city": "Rome"}])
@pytest.mark.parametrize("name", ["Qwen-Qwen3-Coder-30B-A3B-Instruct", "microsoft-MAI-DS-R1"])
def test_arguments_come_in_the_shape_that_the_template_prints(name: str, arguments: Any) -> None:
    """One template iterates over a value, the other concatenates a text."""
    messages = [_QUESTION, assistant("", call("look_up", arguments)), _RESULT]
    text = guest_tokenizer().decode(driven(name).build_generation_prompt(messages, [_TOOL]).token_ids)
    assert "Rome" in text.partition("look_up")[2]


def test_keys_that_a_template_sorts_stay_in_order() -> None:
    """Gemma 4 sorts parameters; ``end`` and ``user``, which are the insides of tags, sort as any other name."""
    offered = [tool("f", "d", {key: {"type": "string"} for key in ("user", "zone", "a", "end")})]
    _assert_rendered_alike("google-gemma-4-E4B-it", [_QUESTION], offered)


def test_words_that_a_template_looks_into_are_seen() -> None:
    """MiniCPM wraps arguments that hold a ``<`` in CDATA."""
    _assert_rendered_alike("openbmb-MiniCPM-SALA", [_QUESTION, assistant("", call("f", {"x": "a < b"})), _RESULT])


def _assert_rendered_alike(name: str, messages: list[OpenAIMessage], tools: list[dict[str, Any]] | None = None) -> None:
    prompt = driven(name).build_generation_prompt(messages, tools)
    assert guest_tokenizer().decode(prompt.token_ids) == guest_text(name, messages, tools)


def test_a_vocabulary_with_tokens_named_like_the_keys_of_a_schema() -> None:
    """Templates look tools up by the schema's own keys and types, whatever the vocabulary calls its tokens."""
    backend = tokenizers.Tokenizer.from_str(guest_tokenizer().backend.to_str())
    added = ("<function>", "<name>", "<parameters>", "stop")
    backend.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in added])
    tokenizer = Tokenizer(backend, special_tokens=guest_tokenizer().special_tokens)
    messages = [_QUESTION, assistant("", call("look_up", {"city": "Rome"})), _RESULT]
    for name in ("Qwen-Qwen3-Coder-30B-A3B-Instruct", "MiniMax-M2"):
        renderer = TemplateRenderer(tokenizer, template=template(name))
        prompt = renderer.build_generation_prompt(messages, [_TOOL])
        assert tokenizer.decode(prompt.token_ids) == guest_text(name, messages, [_TOOL])
