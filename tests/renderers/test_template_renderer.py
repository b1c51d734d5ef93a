"""Any model works: the chat templates of 786 models, driven with Qwen3's vocabulary and the turn markers of others.

The default run takes every fifth of them. Totals are asserted as they were reached, so that a template which stops
working is noticed.
"""

from dataclasses import dataclass

import pytest

from tests.materials import template_names
from tests.renderers.subjects import guest_text
from tests.renderers.template_sweep import CALL, CITY, QUESTION, SAID, TOOL, Finding, drive


@dataclass
class Sweep:
    """What driving many templates showed, and how many of them are known to manage what."""

    findings: list[Finding]
    rendered: int
    """Templates that render a question at all; the others want variables or content parts that a chat has not."""
    shows_answers: int
    shows_calls: int
    user_bridges: int
    """Templates with a bridge to a user turn; the rest do not print answers, or depend on earlier messages."""
    tool_bridges: int
    """Templates with a bridge to a tool result, of those that show calls."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((5, 154, 149, 70, 148, 70), id="every fifth"),
        pytest.param((1, 773, 753, 358, 742, 358), id="all", marks=pytest.mark.slow),
    ],
)
def sweep(request: pytest.FixtureRequest) -> Sweep:
    """The templates, driven once for all tests of this file."""
    step, *totals = request.param
    return Sweep([drive(name) for name in template_names()[::step]], *totals)


def test_what_transformers_renders_is_rendered_to_the_same_ids(sweep: Sweep) -> None:
    assert sum(finding.renders for finding in sweep.findings) == sweep.rendered
    unlike = {finding.name: finding.unlike for finding in sweep.findings if finding.unlike}
    assert unlike == {}


def test_no_template_lets_hostile_words_forge_a_token(sweep: Sweep) -> None:
    assert {finding.name: finding.forged for finding in sweep.findings if finding.forged} == {}


def test_user_turns_are_bridged_or_refused_with_a_reason(sweep: Sweep) -> None:
    bridged = [finding for finding in sweep.findings if "user" in finding.bridges]
    refused = [finding for finding in sweep.findings if "user" in finding.refusals]
    print(f"user turns: {len(bridged)} bridged, {len(refused)} refused")
    assert len(bridged) + len(refused) == len(sweep.findings)
    assert len(bridged) >= sweep.user_bridges
    assert all(finding.refusals["user"] for finding in refused)
    for finding in bridged:
        for title in ("two exchanges", "system message"):
            if title in finding.rendered:
                assert finding.bridges["user"] == finding.rendered[title].rpartition(SAID)[2], finding.name


def test_tool_results_are_bridged_or_refused_with_a_reason(sweep: Sweep) -> None:
    shown = [finding for finding in sweep.findings if finding.shows_calls]
    bridged = [finding for finding in shown if "tool" in finding.bridges]
    print(f"tool results: {len(bridged)} bridged of {len(shown)} templates that show calls")
    assert len(shown) == sweep.shows_calls
    assert len(bridged) >= sweep.tool_bridges
    assert all(finding.refusals["tool"] for finding in shown if finding not in bridged)
    for finding in bridged:
        head = finding.rendered["tool loop"].removesuffix(finding.bridges["tool"])
        assert head != finding.rendered["tool loop"], finding.name
        assert CITY in head, finding.name
        _assert_call_ends(finding.name, head.rpartition(CITY)[2], finding.bridges["tool"])


def _assert_call_ends(name: str, rest_of_call: str, bridge: str) -> None:
    """What the model is taken to have sampled ends the call and closes no turn."""
    assert not any(stop in rest_of_call for stop in ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|call|>", "<turn|>")), (
        name
    )
    alone = guest_text(name, [QUESTION, CALL], [TOOL], prompt=False) or ""
    behind_the_call = alone.rpartition(CITY)[2]
    if behind_the_call.startswith(rest_of_call):  # else the template prints a call without a result differently
        close = behind_the_call[len(rest_of_call) :]
        assert bridge[: len(close)].strip() or not close.strip(), name


def test_an_answer_that_a_template_shows_is_trained(sweep: Sweep) -> None:
    shown = [finding for finding in sweep.findings if finding.closes is not None]
    untrained = [finding.name for finding in shown if SAID not in finding.trained]
    assert len(shown) == sweep.shows_answers
    assert untrained == []
