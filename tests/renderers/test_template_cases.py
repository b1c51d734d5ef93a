"""Single templates that do something of their own."""

from typing import Any

import pytest
import tokenizers

from tests.materials import template
from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import OpenAIMessage, driven, guest_text, guest_tokenizer
from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.template.renderer import TemplateRenderer
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


_SWITCHED = [
    ("HuggingFaceTB-SmolLM3-3B", "/no_think"),
    ("NVIDIA-Nemotron-Nano-v2", "/no_think"),
    ("nvidia-Llama-3_3-Nemotron-Super-49B-v1_5", "/no_think"),
    ("lancejames221b-HAWQ", "<|think_off|>"),
    ("XMB480-Qwen3.6-fixed-tool-calling", "<|think_off|>"),
    ("tcclaviger-Laguna-S-2.1-RFA_L", "<|think_off|>"),
]


@pytest.mark.parametrize("offered", [None, [_TOOL]])
@pytest.mark.parametrize("switch", ["", "switched"])
@pytest.mark.parametrize(("name", "word"), _SWITCHED)
def test_a_switch_in_an_earlier_message_is_not_forgotten(
    name: str, word: str, switch: str, offered: list[dict[str, Any]] | None
) -> None:
    """``/no_think`` in the system message closes every thought in advance, in the bridged prompt as in the first."""
    renderer = driven(name)
    messages = [system(f"Be brief. {word}" if switch else "Be brief."), _QUESTION]
    prompt = renderer.build_generation_prompt(messages, offered).token_ids
    assert guest_tokenizer().decode(prompt) == guest_text(name, messages, offered)
    wrote = guest_tokenizer().encode_like_model(_SAID)
    bridged = renderer.bridge_to_next_turn(prompt, wrote, [_NEXT], offered)
    anew = guest_text(name, [*messages, assistant(_SAID), _NEXT], offered)
    assert bridged is not None
    assert anew is not None
    assert guest_tokenizer().decode(bridged.token_ids).endswith(anew.rpartition(_SAID)[2])


def test_what_a_switch_changes_is_refused_where_the_prompt_is_not_known() -> None:
    renderer = driven("HuggingFaceTB-SmolLM3-3B")
    with pytest.raises(BridgeRefused, match="'/no_think' in an earlier message"):
        renderer.bridge_suffix([2], [_NEXT])


def test_a_switch_that_the_model_wrote_is_refused() -> None:
    """HAWQ's template obeys ``<|think_off|>`` wherever it stands."""
    renderer = driven("lancejames221b-HAWQ")
    prompt = renderer.build_generation_prompt([_QUESTION]).token_ids
    wrote = guest_tokenizer().encode_text("Off: <|think_off|>.")
    with pytest.raises(BridgeRefused, match="the turn itself holds"):
        renderer.bridge_suffix(wrote, [_NEXT], prompt_ids=prompt)


def test_a_prompt_that_ends_as_none_of_the_template_is_refused() -> None:
    renderer = driven("Qwen-Qwen3-0.6B")
    prompt = renderer.build_generation_prompt([_QUESTION]).token_ids
    with pytest.raises(BridgeRefused, match="ends as no prompt of this template"):
        renderer.bridge_suffix([2], [_NEXT], prompt_ids=prompt[:-1])


_CALLED = "look_up"
_CLOSES = [
    ("Qwen-Qwen3-0.6B", "<|im_end|>\n<|im_start|>user\n<tool_response>\n"),
    ("openai-gpt-oss-120b", "<|call|><|start|>functions.look_up to=assistant"),
    ("google-gemma-4-E4B-it", "<|tool_response>response:look_up{value:"),
    ("unsloth-functiongemma-270m-it", "<start_function_response>response:look_up{value:"),
    ("CohereLabs-command-a-plus-05-2026-w4a4", "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"),
    ("CohereForAI-c4ai-command-r-plus-tool_use", "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><results>"),
    ("tiiuae-Falcon3-7B-Instruct", "<|im_end|>\n<|assistant|>\n<tool_response>"),
    ("tiiuae-Falcon-H1-Tiny-Tool-Calling-90M", "<|im_start|>assistant\n<tool_response>"),
    ("upstage-Solar-Open-100B", "<|calls|><|begin|>tool"),
    ("meetkai-functionary-medium-v3.1", "<|eom_id|><|start_header_id|>ipython"),
    ("ServiceNow-AI-Apriel-1.6-15b-Thinker", "\n<|end|>\n<|begin_tool_result|>\n"),
    ("Motif-Technologies-Motif-3-Beta", "<|endofturn|><|startofturn|><|tool|>"),
    ("NVIDIA-Nemotron-Nano-v2", "\n<SPECIAL_12>\n<SPECIAL_11>User\n<TOOL_RESPONSE>"),
    ("Reka-Edge", "\n\n<sep>human: <tool_response>"),
    ("NightPrince-Muslim-6B-PRO", "<|im_end|>\n<|im_start|>user\n<tool_response>"),
    ("GLM-4.6", "<|observation|>\n<tool_response>"),
    ("MiniMax-M2", "[e~[\n]~b]tool\n<response>"),
]


@pytest.mark.parametrize(("name", "close"), _CLOSES)
def test_a_turn_with_a_call_is_closed_as_its_template_closes_it(name: str, close: str) -> None:
    renderer = driven(name)
    prompt = renderer.build_generation_prompt([_QUESTION], [_TOOL]).token_ids
    wrote = guest_tokenizer().encode_text("a call that was cut")
    suffix = guest_tokenizer().decode(renderer.bridge_suffix(wrote, [_RESULT], [_TOOL], prompt_ids=prompt).token_ids)
    assert suffix.removeprefix(renderer.response_format.unfinished_close).startswith(close)
    whole = guest_text(name, [_QUESTION, assistant("", call(_CALLED, {"city": "Rome"})), _RESULT], [_TOOL])
    assert whole is not None
    assert whole.endswith(suffix.removeprefix(renderer.response_format.unfinished_close))


@pytest.mark.parametrize(
    ("name", "stop"), [("openai-gpt-oss-120b", "<|call|>"), ("GLM-4.6", "<|observation|>"), ("MiniMax-M2", "[e~[")]
)
def test_what_closes_a_call_is_sampled_once(name: str, stop: str) -> None:
    """The model stops there, whether the tokenizer's settings know the token as a stop or not."""
    renderer = driven(name)
    token = guest_tokenizer().control[stop]
    assert token in renderer.get_stop_sequences()
    prompt = renderer.build_generation_prompt([_QUESTION], [_TOOL]).token_ids
    wrote = guest_tokenizer().encode_text("a call")
    cut, stopped = (
        renderer.bridge_suffix(ids, [_RESULT], [_TOOL], prompt_ids=prompt).token_ids for ids in (wrote, [*wrote, token])
    )
    assert [token, *stopped] == cut[cut.index(token) :]


@pytest.mark.parametrize("arguments", ['{"city": "Rome"}', {"city": "Rome"}])
@pytest.mark.parametrize("name", ["Qwen-Qwen3-Coder-30B-A3B-Instruct", "microsoft-MAI-DS-R1"])
def test_arguments_come_in_the_shape_that_the_template_prints(name: str, arguments: Any) -> None:
    """One template iterates over a value, the other concatenates a text."""
    messages = [_QUESTION, assistant("", call("look_up", arguments)), _RESULT]
    text = guest_tokenizer().decode(driven(name).build_generation_prompt(messages, [_TOOL]).token_ids)
    assert "Rome" in text.partition("look_up")[2]


def test_keys_that_a_template_sorts_stay_in_order() -> None:
    """Gemma 4 sorts parameters; ``end`` and ``user``, the insides of tags, sort as any other name, bracketed or not."""
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
