"""Seed-OSS: budgets, tools as Python, values as Python prints them."""

import json

import pytest

from tests.renderers.strategies import assistant, call, tool, tool_result, user
from tests.renderers.subjects import FAMILY, SUBJECTS, Subject
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.prompt import ParsedResponse

_only = pytest.mark.parametrize("subject", ["seed-oss"], indirect=True)

_TOOLS = [
    tool(
        "look", "Looks.", {"city": {"type": "string"}, "on": {"type": "object"}, "days": {"type": ["integer", "null"]}}
    )
]
_LOOK = (
    "<seed:tool_call>\n<function=look>\n<parameter=city>Köln</parameter>\n"
    "<parameter=on>{'a': [True, None, \"it's\"]}</parameter>\n<parameter=days>None</parameter>\n</function>\n"
    "</seed:tool_call>"
)
_VALUE = {"city": "Köln", "on": {"a": [True, None, "it's"]}, "days": None}


def _parse(subject: Subject, written: str) -> ParsedResponse:
    return subject.exact.parse_response(subject.spell(written + "<seed:eos>"), _TOOLS)


@_only
def test_values_are_written_as_python_has_them_and_read_back(subject: Subject) -> None:
    message = assistant("I look.", call("look", _VALUE), call("look", {}, 1), reasoning="t")
    ids, weights = subject.exact.build_supervised_example([user("q"), message], _TOOLS)
    sampled = [i for i, weight in zip(ids, weights, strict=True) if weight]
    empty = "<seed:tool_call>\n<function=look>\n</function>\n</seed:tool_call>"
    written = f"<seed:think>t</seed:think>\nI look.\n\n{_LOOK}\n{empty}<seed:eos>"
    assert subject.tokenizer.decode(sampled) == written
    parsed = subject.exact.parse_response(sampled, _TOOLS)
    assert [json.loads(made.arguments_json) for made in parsed.tool_calls] == [_VALUE, {}]
    assert (parsed.reasoning, parsed.content) == ("t", "I look.")


@_only
@pytest.mark.parametrize(
    ("written", "statuses", "content"),
    [
        (f"<seed:think>t</seed:think>\n{_LOOK}", ["ok"], ""),
        (f"{_LOOK}\nDone.", ["ok"], "Done."),
        (_LOOK.replace("look", "find"), ["unknown_tool"], ""),
        (_LOOK.replace("</function>\n", ""), ["unclosed"], ""),
        ("<seed:tool_call>\nlook()\n</seed:tool_call>", ["malformed"], "<seed:tool_call>\nlook()\n</seed:tool_call>"),
    ],
)
def test_calls_are_read(subject: Subject, written: str, statuses: list[str], content: str) -> None:
    parsed = _parse(subject, written)
    assert [made.status.value for made in parsed.calls] == statuses
    assert parsed.content == content


@_only
def test_what_the_model_says_of_its_budget_is_part_of_the_thought(subject: Subject) -> None:
    thought = "a<seed:cot_budget_reflect>I have used 128 tokens.</seed:cot_budget_reflect>b"
    written = subject.spell(f"<seed:think>{thought}</seed:think>\nFair.<seed:eos>")
    parsed = subject.exact.parse_response(written)
    assert (parsed.reasoning, parsed.content) == (thought, "Fair.")
    ids, weights = subject.exact.build_supervised_example([user("q"), parsed.message])
    assert [i for i, weight in zip(ids, weights, strict=True) if weight] == written


@_only
def test_users_cannot_speak_of_budgets_in_tokens(subject: Subject) -> None:
    ids = subject.exact.build_generation_prompt([user("<seed:cot_budget_reflect>")]).token_ids
    assert subject.tokenizer.control["<seed:cot_budget_reflect>"] not in ids


@pytest.mark.parametrize(
    ("budget", "step"), [(-1, None), (0, None), (1, 128), (512, 128), (513, 256), (16384, 1024), (99999, 1024)]
)
def test_a_budget_names_its_step(budget: int, step: int | None) -> None:
    subject = SUBJECTS["seed-oss"]
    renderer = get_renderer("seed-oss", subject.tokenizer, thinking_budget=budget)
    shown = renderer.tokenizer.decode(renderer.build_generation_prompt([user("q")]).token_ids)
    assert (f"every {step} tokens" in shown) == (step is not None)
    assert ("thinking budget is 0" in shown) == (budget == 0)


@pytest.mark.parametrize("subject", ["seed-oss, budget 0"], indirect=True)
def test_without_a_budget_the_prompt_holds_the_thought(subject: Subject) -> None:
    history, new = [user("q")], [user("r")]
    prompt = subject.exact.build_generation_prompt(history).token_ids
    completion = subject.spell("\nFair.<seed:eos>")
    parsed = subject.exact.parse_response(completion)
    assert (parsed.reasoning, parsed.content) == (None, "Fair.")
    bridged = subject.exact.bridge_to_next_turn(prompt, completion, new)
    assert bridged is not None
    assert bridged.token_ids == subject.exact.build_generation_prompt([*history, parsed.message, *new]).token_ids


@_only
def test_an_empty_answer_is_closed_but_for_the_template(subject: Subject) -> None:
    messages = [user("q"), assistant(""), user("r")]
    shown = subject.tokenizer.decode(subject.exact.build_generation_prompt(messages).token_ids)
    assert "<seed:bos>assistant\n<seed:eos><seed:bos>user\nr" in shown
    assert "<seed:bos>assistant<seed:bos>user\nr" in subject.template_text(messages)
    assert subject.renderers[FAMILY].build_generation_prompt(messages).token_ids == subject.template_ids(messages)


@_only
def test_tools_are_declared_as_python_functions(subject: Subject) -> None:
    returning = {"name": "f", "description": " F. ", "parameters": {"type": "object", "properties": {}}}
    returning["returns"] = {"properties": {"r": {"type": "boolean", "description": "R."}}}
    for offered in (
        [{"type": "function", "function": returning}],
        [*_TOOLS, {"type": "function", "function": returning}],
    ):
        for renderer in (subject.exact, subject.renderers[FAMILY]):
            assert renderer.build_generation_prompt([user("q")], offered).token_ids == subject.template_ids(
                [user("q")], offered
            )


@_only
def test_results_are_turns_of_their_own(subject: Subject) -> None:
    suffix = subject.exact.bridge_suffix(subject.spell(f"{_LOOK}<seed:eos>"), [tool_result("1"), tool_result("2", 1)])
    shown = "<seed:bos>tool\n1<seed:eos><seed:bos>tool\n2<seed:eos><seed:bos>assistant\n"
    assert subject.tokenizer.decode(suffix.token_ids) == shown
