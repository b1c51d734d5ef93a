"""``tickertape audit`` and ``tickertape render``: what a model's format does, for a person to read."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from tickertape.renderers.audit import Audit, Difference, Growth, audit
from tickertape.renderers.bare_template_tokenizer import tokenizer_for_template
from tickertape.renderers.choose import choose_renderer, get_renderer
from tickertape.renderers.colorize import format_colorized
from tickertape.renderers.messages import flatten_content
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.supervised import TrainOn
from tickertape.renderers.tokenizer import Tokenizer

#: In what a family says that cannot be written with a vocabulary.
_LACKS = "needs the control tokens"


def load(source: str) -> Tokenizer:
    """The tokenizer of a hub name or a directory; for a file, which must be a chat template, one made for it.

    Raises:
        TokenizerError: there is none.
        ValueError: the file is not text.
    """
    path = Path(source)
    return tokenizer_for_template(path.read_text(), path.name) if path.is_file() else Tokenizer.load(source)


def print_audit(source: str, console: Console) -> bool:
    """Prints the report; returns whether the template keeps prefixes."""
    report = audit(load(source))
    _print_choice(report, console)
    console.print("\n[bold]What the template does as a conversation grows[/]")
    for growth in report.growths:
        _print_growth(growth, console)
    broken = sum(growth.difference is not None for growth in report.growths)
    shown = sum(growth.refusal is None for growth in report.growths)
    verdict = "keeps every prefix" if report.keeps_prefixes else f"breaks the prefix in {broken} of {shown} ways"
    console.print(f"\nThe template {verdict}.")
    return report.keeps_prefixes


def _print_growth(growth: Growth, console: Console) -> None:
    if growth.refusal is not None:
        console.print(f"  [dim]–[/] {growth.title}: the template refuses it: {escape(growth.refusal)}", soft_wrap=True)
        return
    mark, verdict = ("[green]✓[/]", "kept") if growth.difference is None else ("[red]✗[/]", "breaks")
    console.print(f"  {mark} {growth.title}: {verdict}")
    if growth.difference is not None:
        _print_difference(growth.difference, console)
    if growth.unbridged is not None:
        console.print(Text(f"      Tickertape does not bridge it: {growth.unbridged}", style="yellow"), soft_wrap=True)
    elif growth.difference is not None:
        console.print(Text("      Tickertape extends the exact tokens instead", style="dim"))


def _print_choice(report: Audit, console: Console) -> None:
    choice = report.choice
    renderer = choice.renderer
    console.print(f"[bold]Renderer: {renderer.name}[/]: {escape(choice.reason)}", soft_wrap=True)
    for what in ("thoughts", "calls", "stops"):
        console.print(f"  {what}: {escape(getattr(report.understood, what))}", soft_wrap=True)
    if renderer.name == "template":
        near = [line for line in choice.disagreements if _LACKS not in line]
        for line in near:
            console.print(Text(f"  not {line}", style="dim"), soft_wrap=True)
        if others := len(choice.disagreements) - len(near):
            console.print(Text(f"  not {others} families whose control tokens it lacks", style="dim"))


def _print_difference(difference: Difference, console: Console) -> None:
    """Two lines that share a beginning: what the model read and wrote, and what rendering makes of it later."""
    common = _one_line(difference.common)
    for sign, style, text in (("-", "red", difference.sampled), ("+", "yellow", difference.rendered)):
        line = Text.assemble((f"{sign} …", style), (common, "dim"), (_one_line(text), style))
        console.print(Text("      ").append_text(line), soft_wrap=True)


def _one_line(text: str) -> str:
    return text.replace("\n", "↵")


def print_conversation(
    file: str,
    source: str,
    *,
    renderer_name: str | None,
    train_on: TrainOn | None,
    options: Mapping[str, Any],
    color: bool,
) -> None:
    """Prints a conversation as the model reads it; what ``train_on`` trains in another colour, and without it the
    generation prompt at the end.

    Raises:
        ValueError: the file does not hold a conversation, or a message is malformed.
        RenderError: the format cannot express it.
    """
    messages, tools = _conversation(file)
    renderer = _renderer(load(source), renderer_name, options)
    if train_on is None:
        ids = renderer.build_generation_prompt(messages, tools).token_ids
        weights = [0.0] * len(ids)
    else:
        ids, weights = renderer.build_supervised_example(messages, tools, train_on=train_on)
    shown = format_colorized(ids, weights, renderer.tokenizer) if color else renderer.tokenizer.decode(ids)
    print(shown)
    trained = f", {sum(map(bool, weights))} trained" if train_on is not None else ""
    print(f"{len(ids)} tokens{trained}; renderer {renderer.name}", file=sys.stderr)


def _renderer(tokenizer: Tokenizer, name: str | None, options: Mapping[str, Any]) -> Renderer:
    return choose_renderer(tokenizer, **options).renderer if name is None else get_renderer(name, tokenizer, **options)


def _conversation(file: str) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]] | None]:
    """Messages and tools of a JSON file: a list of messages, or an object as a chat request has it."""
    where = "stdin" if file == "-" else file
    try:
        value = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    messages, tools = (value.get("messages"), value.get("tools")) if isinstance(value, dict) else (value, None)
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError(f'{where} must hold a list of messages, or an object with "messages" and perhaps "tools"')
    for k, message in enumerate(messages):
        flatten_content(message.get("content"), f"messages[{k}]")
    return messages, tools
