"""``tickertape export`` for a person to watch."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tickertape.clients.calls import SampleQuery
from tickertape.server.commands.output import asking
from tickertape.server.commands.sample_files import (
    Exported,
    ExportError,
    check_target,
    export,
    open_source,
    source_name,
)
from tickertape.server.routes.queries import json_or_text
from tickertape.server.store.filters import SessionFilter

#: Tokens that are read at once: about 100 MB.
PAGE_TOKENS = 8_000_000


def run_export(
    source: str,
    target: Path,
    where: Sequence[str],
    options: Mapping[str, Any],
    *,
    part_tokens: int,
    quiet: bool = False,
    api_key: str | None = None,
) -> Exported:
    """Exports, with a bar of progress on standard error where that is a terminal.

    Args:
        source: URL of a server, or a tape: a file or the URL of a database.
        target: see :func:`tickertape.server.commands.sample_files.export`.
        where: filters, ``NAME=VALUE`` each.
        options: how samples are made.
        part_tokens: tokens of a Parquet part.
        quiet: print nothing.
        api_key: for a server that asks for one.

    Raises:
        ExportError: something of it cannot be meant, or the server refused or could not be reached.
        StoreError: the file is no tape.
        OSError: the target cannot be written.
    """
    wanted = cast("SampleQuery", {**filters_of(where), **options})
    name = source_name(source)
    said = {"source": name if "://" in name else str(Path(name).resolve()), **wanted}
    console = Console(stderr=True, highlight=False, quiet=quiet)
    check_target(target)
    with asking(name), closing(open_source(source, wanted, api_key)) as opened, _bar(console) as bar:
        task = bar.add_task("exporting", total=None, tokens=0)

        def progress(samples: int, tokens: int, expected: int) -> None:
            bar.update(task, completed=samples, total=max(samples, expected), tokens=tokens)

        done = export(opened, target, said=said, part_tokens=part_tokens, page_tokens=PAGE_TOKENS, progress=progress)
    files = ", ".join(str(path) for path in done.files[:3]) + (", …" if len(done.files) > 3 else "")
    nothing = "nothing new" if done.has_samples else "there is nothing to export"
    samples = "1 sample" if done.samples == 1 else f"{done.samples} samples"
    console.print(f"{samples}, {done.tokens} tokens written: {files or nothing}", soft_wrap=True)
    if done.open_sessions:
        advice = "finish them (tickertape finish), or let the server (tickertape serve --finish-idle SECONDS)"
        console.print(f"{done.open_sessions} sessions are still open, and were left out: {advice}", soft_wrap=True)
    return done


def filters_of(where: Sequence[str]) -> dict[str, Any]:
    """Filters of ``NAME=VALUE`` each.

    Raises:
        ExportError: there is no such filter.
    """
    filters: dict[str, Any] = {}
    for each in where:
        name, equals, value = each.partition("=")
        if not equals:
            raise ExportError(f"--where {each!r}: it must be NAME=VALUE")
        family, dot, key = name.partition(".")
        if dot and family == "metadata":
            filters.setdefault("metadata", {})[key] = json_or_text(value)
        elif name in SessionFilter.__dataclass_fields__ and name != "metadata":
            filters[name] = value
        else:
            known = ", ".join(n if n != "metadata" else "metadata.KEY" for n in SessionFilter.__dataclass_fields__)
            raise ExportError(f"--where {each!r}: there is no {name!r}; there are: {known}")
    return filters


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total} samples, {task.fields[tokens]} tokens"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
