"""``tickertape demo``: an agent with a tool against the embedded model, then its tape, then the proof that holds it up.

Nothing is staged: the agent reaches the proxy over HTTP through the OpenAI SDK, and everything that is printed is read
back from the trainer's side of the same server.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tickertape.clients.engines.model_file import model_file
from tickertape.renderers.colorize import PROMPT_COLOR, TRAINED_COLOR, format_colorized
from tickertape.renderers.gguf import tokenizer_from_gguf
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.assembly import SettingsError
from tickertape.server.running import serving
from tickertape.server.settings import Settings

_RESET = "\x1b[0m"
_SPEAKERS = {"user": "bold", "model": "bold yellow", "tool": "green", "agent": "magenta"}
_PATIENCE = 300.0
"""Seconds for one answer: a machine that is busy elsewhere is slow, not broken."""


class DemoFailed(ValueError):
    """What the demo is there to show did not hold, or the proxy did not answer."""


@dataclass(frozen=True, slots=True)
class Link:
    """One turn, and how its prompt continues the turn before it."""

    outcome: str
    prompt_ids: list[int]
    n_new: int
    """Prompt tokens that were not in the parent's stream."""
    completion: list[int]
    continues: int | None
    """How many tokens of the previous turn's stream the prompt begins with: all; ``None`` for the first turn."""

    @property
    def stream(self) -> list[int]:
        """All that the model had read and written when the turn was over."""
        return self.prompt_ids + self.completion


def run_demo(db: Path | None, gguf: Path | None, color: bool) -> None:
    """Runs the demo and prints it.

    Args:
        db: the tape to write; ``None`` for a temporary one.
        gguf: the model; ``None`` for the default one.
        color: whether to print with ANSI colours.

    Raises:
        DemoFailed: the agent got no answer, or the tape is not exact.
        SettingsError: the ``openai`` package is missing.
        EngineError, ModelFileError, StoreError: see :func:`tickertape.server.running.serving`.
    """
    if find_spec("openai") is None:
        raise SettingsError("the demo's agent needs the openai package: pip install 'tickertape[embedded]'")
    console = Console(force_terminal=color or None, no_color=not color, highlight=False, soft_wrap=True)
    session_id = f"demo-{uuid.uuid4().hex[:8]}"
    _title(console, "1", "Start the proxy, with a real model inside")
    path = model_file(gguf, say=lambda line: _dim(console, line))
    with _tape(db) as tape, serving(Settings(port=0, db=tape, gguf=path), say=lambda line: _dim(console, line)) as url:
        _dim(console, f"listening on {url}")
        _title(console, "2", f"Run an agent: the OpenAI SDK, base_url={url}/sessions/{session_id}/v1")
        _run_agent(console, url, session_id)
        turns, samples = _get_turns(url, session_id), _get_samples(url, session_id)
    _title(console, "3", "Read the tape as a trainer does: GET /sessions/{id}/samples")
    _print_samples(console, samples, _length_of_preface(turns[0]), tokenizer_from_gguf(path), color=color)
    _title(console, "4", "Check it: each prompt begins with all that the model read and wrote before, token for token")
    links = check_prefixes(turns)
    check_samples(turns, samples, links)
    _print_links(console, links)
    _print_next_steps(console, db, session_id)


@contextmanager
def _tape(db: Path | None) -> Iterator[Path]:
    if db is not None:
        yield db
        return
    with TemporaryDirectory(prefix="tickertape-demo-") as folder:
        yield Path(folder) / "tape.db"


def _run_agent(console: Console, url: str, session_id: str) -> None:
    from openai import OpenAI, OpenAIError

    from tickertape.server.demo_agent import QUESTIONS, Agent

    def tell(who: str, what: str) -> None:
        console.print(Text.assemble((f"{who:>6}  ", _SPEAKERS[who]), what))

    try:
        client = OpenAI(base_url=f"{url}/sessions/{session_id}/v1", api_key="none", max_retries=0, timeout=_PATIENCE)
        agent = Agent(client, client.models.list().data[0].id, tell)
        for question in QUESTIONS:
            agent.ask(question)
    except OpenAIError as error:
        raise DemoFailed(f"the agent got no answer: {error}") from error


def _get_turns(url: str, session_id: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/sessions/{session_id}/turns", timeout=_PATIENCE).raise_for_status()
    turns: list[dict[str, Any]] = answer.json()["turns"]
    return turns


def _get_samples(url: str, session_id: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/sessions/{session_id}/samples", timeout=_PATIENCE).raise_for_status()
    samples: list[dict[str, Any]] = answer.json()["samples"]
    return samples


# The checks.


def check_prefixes(turns: Sequence[dict[str, Any]]) -> list[Link]:
    """Rebuilds every turn's prompt and compares it with the stream of the turn before.

    Raises:
        DemoFailed: a prompt does not begin with the stream before it, or is not what the agent was charged for.
    """
    links: dict[str, Link] = {}
    before: list[int] | None = None
    for number, turn in enumerate(turns, start=1):
        parent = links.get(turn["parent_id"])
        prompt_ids = (parent.stream if parent else []) + turn["prompt_delta"]
        if before is not None and prompt_ids[: len(before)] != before:
            why = turn["fork_reason"] or "no reason given"
            raise DemoFailed(f"turn {number}'s prompt does not begin with turn {number - 1}'s tokens ({why})")
        if len(prompt_ids) != turn["usage"]["prompt_tokens"]:
            sent = turn["usage"]["prompt_tokens"]
            raise DemoFailed(f"turn {number}: {sent} prompt tokens were sent, {len(prompt_ids)} are on the tape")
        continues = None if before is None else len(before)
        link = Link(turn["outcome"], prompt_ids, len(turn["prompt_delta"]), turn["completion"], continues)
        links[turn["id"]] = link
        before = link.stream
    return list(links.values())


def check_samples(turns: Sequence[dict[str, Any]], samples: Sequence[dict[str, Any]], links: Sequence[Link]) -> None:
    """Compares the samples with the turns: one sample, the last turn's stream, every sampled token trained once.

    Raises:
        DemoFailed: they differ.
    """
    if len(samples) != 1 or samples[0]["token_ids"] != links[-1].stream:
        raise DemoFailed("the session's turns are one line, but its samples are not that line")
    sample = samples[0]
    marked = [i for i, on in zip(sample["token_ids"], sample["loss_mask"], strict=True) if on]
    if marked != [i for turn in turns for i in turn["completion"]]:
        raise DemoFailed("the tokens to be trained are not those that were sampled")


# Printing.


def _title(console: Console, number: str, text: str) -> None:
    console.print(Text.assemble("\n", (f"{number}  {text}", "bold")))


def _dim(console: Console, line: str) -> None:
    console.print(Text(f"   {line}", style="dim"))


def _length_of_preface(turn: dict[str, Any]) -> int:
    """Tokens of the first prompt that come before the agent's first question."""
    question = turn["first_message"] + len(turn["messages"]) - 1
    at = 0
    for message, _kind, n_tokens in turn["prompt_spans"]:
        if message == question:
            return at
        at += n_tokens
    return 0


def _print_samples(
    console: Console, samples: Sequence[dict[str, Any]], preface: int, tokenizer: Tokenizer, *, color: bool
) -> None:
    paint = format_colorized if color else _format_marked
    read, wrote = (
        (f"{PROMPT_COLOR}read by the model{_RESET}", f"{TRAINED_COLOR}sampled by it, and trained{_RESET}")
        if color
        else ("plain: read by the model", "«in quotes»: sampled by it, and trained")
    )
    _raw(console, f"   {read}   {wrote}\n")
    for sample in samples:
        token_ids, mask = sample["token_ids"], sample["loss_mask"]
        _dim(console, f"… {preface} tokens that were read first: system message, the tool, worked examples …\n")
        _raw(console, paint(token_ids[preface:], mask[preface:], tokenizer) + "\n")
        known = sum(value is not None for value in sample["logprobs"])
        _dim(console, f"{len(token_ids)} tokens, {sum(mask)} of them trained; {known} have the engine's own logprob")


def _format_marked(token_ids: Sequence[int], loss_mask: Sequence[float], tokenizer: Tokenizer) -> str:
    """The tape without colours: what is trained in «quotes»."""
    runs = groupby(zip(token_ids, loss_mask, strict=True), key=lambda pair: pair[1] != 0)
    texts = ((on, tokenizer.decode([i for i, _ in run])) for on, run in runs)
    return "".join(f"«{text}»" if on else text for on, text in texts).replace("\n", "↵\n")


def _raw(console: Console, text: str) -> None:
    """Text with ANSI codes of its own, or none: as it stands, without rich's markup or wrapping."""
    console.file.write(text + "\n")
    console.file.flush()


def _print_links(console: Console, links: Sequence[Link]) -> None:
    table = Table("turn", box=None, padding=(0, 2), header_style="dim")
    for heading in ("prompt tokens", "carried over", "new", "sampled"):
        table.add_column(heading, justify="right")
    table.add_column("outcome")
    table.add_column("token ids compared")
    for number, link in enumerate(links, start=1):
        counts = (len(link.prompt_ids), len(link.prompt_ids) - link.n_new, link.n_new, len(link.completion))
        proof = "first" if link.continues is None else f"begins with turn {number - 1}'s {link.continues} tokens ✓"
        table.add_row(str(number), *map(str, counts), link.outcome, proof)
    console.print(table)


def _print_next_steps(console: Console, db: Path | None, session_id: str) -> None:
    console.print()
    if db is None:
        console.print(Text("The tape was temporary and is gone. Keep one: tickertape demo --db tape.db"))
        console.print(
            Text("Your own agent: tickertape serve, then base_url=http://127.0.0.1:8700/sessions/any-name/v1")
        )
        session_id = "any-name"
    else:
        console.print(Text(f"The tape is kept. Serve it: tickertape serve --db {db}"))
    console.print(Text(f"Then: curl http://127.0.0.1:8700/sessions/{session_id}/samples   (or …/turns, or /sessions)"))
