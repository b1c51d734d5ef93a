"""Any model works: the chat templates of 786 models, driven with Qwen3's vocabulary and the turn markers of others.

The default run takes every fifth of them. Totals are asserted as they were reached, so that a template which stops
working is noticed.
"""

from dataclasses import dataclass

import pytest

from tests.materials import template_names
from tests.renderers.template_sweep import CITY, SAID, Finding, drive
from tests.renderers.template_table import totals, write


@dataclass
class Sweep:
    """What driving many templates showed, and how many of them are known to manage what."""

    findings: list[Finding]
    totals: list[int]
    """In the order of the table: templates; those that render a question; to the right ids; safely; that train answers;
    that bridge user turns; that show tool calls; that bridge tool results."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((5, 158, 154, 154, 154, 149, 148, 70, 70), id="every fifth"),
        pytest.param((1, 786, 773, 773, 773, 753, 742, 358, 358), id="all", marks=pytest.mark.slow),
    ],
)
def sweep(request: pytest.FixtureRequest) -> Sweep:
    """The templates, driven once for all tests of this file."""
    step, *known = request.param
    return Sweep([drive(name) for name in template_names()[::step]], known)


def test_as_many_templates_manage_each_thing_as_are_known_to(sweep: Sweep) -> None:
    found = totals(sweep.findings)
    assert found == dict(zip(found, sweep.totals, strict=True))


def test_what_transformers_renders_is_rendered_to_the_same_ids(sweep: Sweep) -> None:
    assert {finding.name: finding.unlike for finding in sweep.findings if finding.unlike} == {}


def test_no_template_lets_hostile_words_forge_a_token(sweep: Sweep) -> None:
    assert {finding.name: finding.forged for finding in sweep.findings if finding.forged} == {}


def test_user_turns_are_bridged_or_refused_with_a_reason(sweep: Sweep) -> None:
    for finding in sweep.findings:
        assert ("user" in finding.bridges) != bool(finding.refusals.get("user")), finding.name
        for title in ("two exchanges", "system message"):
            if "user" in finding.bridges and title in finding.rendered:
                assert finding.bridges["user"] == finding.rendered[title].rpartition(SAID)[2], finding.name


def test_a_bridge_to_a_tool_result_is_the_end_of_the_rendered_loop(sweep: Sweep) -> None:
    """What comes before it ends the call, and closes no turn: the model is taken to have sampled it."""
    for finding in sweep.findings:
        if finding.shows_calls:
            whole, bridge = finding.rendered["tool loop"], finding.bridges["tool"]
            assert whole.endswith(bridge), finding.name
            rest_of_call = whole.removesuffix(bridge).rpartition(CITY)[2]
            assert rest_of_call != whole.removesuffix(bridge), f"{finding.name}: the call itself is bridged"
            assert not any(stop in rest_of_call for stop in _STOPS), finding.name


#: What closes a turn in the commonest formats.
_STOPS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|call|>", "<turn|>", "</s>", "<|observation|>", "END_OF_TURN_TOKEN")


def test_an_answer_that_a_template_shows_is_trained(sweep: Sweep) -> None:
    shown = [finding for finding in sweep.findings if finding.closes is not None]
    assert [finding.name for finding in shown if not finding.trains_answers] == []


def test_the_table_has_a_line_for_each_template(sweep: Sweep) -> None:
    document = write(sweep.findings)
    for finding in sweep.findings:
        assert f"\n| {finding.name} | " in document
    for what, count in totals(sweep.findings).items():
        assert f"| {what} | {count} |" in document
