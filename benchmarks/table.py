"""The one table of a run, on a terminal or as Markdown."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Contender

WIDTH = 130


@dataclass(frozen=True)
class Cell:
    """Everything measured at one context length. The first contender is the engine itself, the second the limit."""

    n_tokens: int
    contenders: Sequence[Contender]
    session_bytes: float | None
    """Growth of the last contender's memory for each session that it holds."""

    def rows(self) -> list[list[str]]:
        engine, limit = self.contenders[:2]
        direct = engine.latency(50)
        rows = []
        for contender in self.contenders:
            session = self.session_bytes if contender is self.contenders[-1] else None
            added = "" if contender is engine else _ms(contender.latency(50) - direct)
            added_99 = "" if contender is engine else _ms(contender.latency(99) - direct)
            rows.append(
                [
                    f"{self.n_tokens // 1024}k",
                    contender.name,
                    f"{contender.sent / 1000:,.0f}",
                    f"{contender.reached / 1000:,.0f}",
                    f"{contender.rate:,.0f}",
                    f"{contender.rate / limit.rate:.2f}",
                    _ms(contender.latency(50)),
                    added,
                    added_99,
                    f"{contender.cpu_per_1000:.2f}",
                    f"{100 * contender.busy:.0f}",
                    "" if session is None else f"{session / 1000:,.0f}",
                ]
            )
        return rows


def columns(connections: int) -> list[str]:
    return [
        "context",
        "path",
        "KB\nsent",
        "KB to\nengine",
        f"turns/s\n{connections} conn.",
        "of\nrelay",
        "p50 ms\n1 conn.",
        "added\np50 ms",
        "added\np99 ms",
        "CPU s per\n1,000 turns",
        "core\nbusy %",
        "KB per\nsession",
    ]


def machine() -> str:
    return f"{_cpu_model()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


def show(cells: Sequence[Cell], notes: Sequence[str], connections: int, *, markdown: bool) -> None:
    rows = [cell.rows() for cell in cells]
    show_table(columns(connections), rows, notes, markdown=markdown)


def show_table(
    titles: Sequence[str], sections: Sequence[Sequence[list[str]]], notes: Sequence[str], *, markdown: bool
) -> None:
    """One table with lines between its sections; of its columns, the first two are text and the others numbers."""
    if markdown:
        titles = [title.replace("\n", " ") for title in titles]
        rule = ["---", "---", *["---:"] * (len(titles) - 2)]
        rows = [row for section in sections for row in section]
        print(*(f"| {' | '.join(row)} |" for row in [titles, rule, *rows]), sep="\n")
        print("", *notes, sep="\n")
        return
    table = Table(*titles[:2])
    for title in titles[2:]:
        table.add_column(title, justify="right")
    for section in sections:
        for row in section:
            table.add_row(*row)
        table.add_section()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)  # a file has room for every column
    console.print(table, *notes, sep="\n", highlight=False)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
