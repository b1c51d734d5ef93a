"""``tickertape demo``: an agent with a tool against the embedded model, then its tape, then the proof that holds it up.

Nothing is staged: the agent reaches the proxy over HTTP through the OpenAI SDK, and the tape that is printed is read
back from the trainer's side of the same server.
"""

import shlex
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tickertape.clients import Sample, TrajectoryClient, Turn
from tickertape.clients.extras import missing, needs
from tickertape.clients.tape import stream
from tickertape.renderers.colorize import PROMPT_COLOR, RESET, TRAINED_COLOR, format_colorized
from tickertape.renderers.tokenizer import Tokenizer, TokenizerLike
from tickertape.server.commands.export import PAGE_TOKENS, run_export
from tickertape.server.serving.assembly import make_parts
from tickertape.server.serving.running import serving
from tickertape.server.settings import Settings, SettingsError

_SPEAKERS = {"user": "bold", "model": "bold yellow", "tool": "green", "agent": "magenta"}
#: Seconds for one answer: a machine that is busy elsewhere is slow, not broken.
_PATIENCE = 300.0


class DemoFailed(ValueError):
    """The demo did not hold what it is there to show, or the proxy did not answer."""


def run_demo(db: Path | None, gguf: Path | None, color: bool) -> None:
    """Runs the demo and prints it.

    Args:
        db: the tape to write; ``None`` for a temporary one.
        gguf: the model; ``None`` for the default one.
        color: whether to print with ANSI colours.

    Raises:
        DemoFailed: the agent got no answer, or the tape is not exact.
        SettingsError: the packages of the embedded engine and of the agent are missing.
        EngineError, ModelFileError, StoreError: see :func:`tickertape.server.serving.running.serving`.
    """
    if missing("embedded"):
        raise SettingsError(needs("the demo", "embedded"))
    console = Console(force_terminal=color, color_system="standard" if color else None, highlight=False, soft_wrap=True)
    session_id = f"demo-{uuid.uuid4().hex[:8]}"
    _title(console, "1", "Start the proxy, with a real model inside")
    say = partial(_dim, console)
    with _tape(db) as tape:
        settings = Settings(port=0, db=tape, gguf=gguf)
        parts = make_parts(settings, say=say)
        with serving(settings, say=say, parts=parts) as url, TrajectoryClient(url, timeout=_PATIENCE) as client:
            say(f"listening on {url}")
            _title(console, "2", f"Run an agent: the OpenAI SDK, base_url={url}/sessions/{session_id}/v1")
            with client.session(session_id, group_id="demo") as session:
                session.reward(_run_agent(console, session.base_url))
            turns, samples = client.turns(session_id), client.samples(session_id)
        exported = _export(tape)
    _title(console, "3", "Read the tape as a trainer does: GET /sessions/{id}/samples")
    _print_samples(console, samples, _length_of_preface(turns[0]), parts.choice.renderer.tokenizer, color=color)
    _title(console, "4", "Check it: each prompt begins with all that the model read and wrote before, token for token")
    check_prefixes(turns)
    check_samples(turns, samples)
    _print_turns(console, turns)
    _title(console, "5", "Take it to a trainer: tickertape export TAPE samples.parquet")
    _raw(console, exported)
    _print_next_steps(console, db)


@contextmanager
def _tape(db: Path | None) -> Iterator[Path]:
    if db is not None:
        yield db
        return
    with TemporaryDirectory(prefix="tickertape-demo-") as folder:
        yield Path(folder) / "tape.db"


def _export(tape: Path) -> str:
    """Returns what ``tickertape export`` makes of the tape, as a trainer's script may read it."""
    with TemporaryDirectory(prefix="tickertape-demo-") as folder:
        target = Path(folder) / "samples.parquet"
        run_export(str(tape), target, ["group_id=demo"], {}, part_tokens=PAGE_TOKENS, quiet=True)
        rows = pq.read_table(target, columns=["session_id", "token_ids", "loss_mask", "reward"]).to_pylist()
    counts = [(row["session_id"], len(row["token_ids"]), sum(row["loss_mask"]), row["reward"]) for row in rows]
    lines = ["   {}  {} tokens, {} trained, reward {}".format(*each) for each in counts]
    return "\n".join(lines)


def _run_agent(console: Console, base_url: str) -> float:
    """Plays the agent; returns its reward, the share of questions that it answered rightly."""
    from openai import OpenAI, OpenAIError

    from tickertape.server.commands.demo_agent import QUESTIONS, Agent

    def tell(who: str, what: str) -> None:
        console.print(Text.assemble((f"{who:>6}  ", _SPEAKERS[who]), what))

    try:
        client = OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=_PATIENCE)
        agent = Agent(client, client.models.list().data[0].id, tell)
        right = [expected in agent.ask(question) for question, expected in QUESTIONS.items()]
    except OpenAIError as error:
        raise DemoFailed(f"the agent got no answer: {error}") from error
    reward = sum(right) / len(right)
    tell("agent", f"{sum(right)} of {len(right)} answers are right: reward {reward}")
    return reward


# The checks.


def check_prefixes(turns: Sequence[Turn]) -> None:
    """Rebuilds every turn's prompt and compares it with the stream of the turn before, token for token.

    Raises:
        DemoFailed: a prompt does not begin with the stream before it, or is not what the agent was charged for.
    """
    by_id = {turn.id: turn for turn in turns}
    for number, turn in enumerate(turns, start=1):
        prompt_ids = stream(turn, by_id)[: -len(turn.completion) or None]
        if number > 1:
            before = stream(turns[number - 2], by_id)
            if not np.array_equal(prompt_ids[: len(before)], before):
                why = turn.fork_reason or "no reason given"
                raise DemoFailed(f"turn {number}'s prompt does not begin with turn {number - 1}'s tokens ({why})")
        sent = turn.usage["prompt_tokens"]
        if len(prompt_ids) != sent:
            raise DemoFailed(f"turn {number}: {sent} prompt tokens were sent, {len(prompt_ids)} are on the tape")


def check_samples(turns: Sequence[Turn], samples: Sequence[Sample]) -> None:
    """Compares the samples with the turns: one sample, the last turn's stream, every sampled token trained once.

    Raises:
        DemoFailed: they differ.
    """
    whole = stream(turns[-1], {turn.id: turn for turn in turns})
    if len(samples) != 1 or not np.array_equal(samples[0].token_ids, whole):
        raise DemoFailed("the session's turns are one line, but its samples are not that line")
    trained = samples[0].token_ids[samples[0].loss_mask == 1]
    if not np.array_equal(trained, np.concatenate([turn.completion for turn in turns])):
        raise DemoFailed("the tokens to be trained are not those that were sampled")


# Printing.


def _title(console: Console, number: str, text: str) -> None:
    console.print(Text.assemble("\n", (f"{number}  {text}", "bold")))


def _dim(console: Console, line: str) -> None:
    console.print(Text(f"   {line}", style="dim"))


def _length_of_preface(turn: Turn) -> int:
    """Tokens of the first prompt that come before the agent's first question."""
    question = turn.first_message + len(turn.messages) - 1
    at = 0
    for message, _kind, n_tokens in turn.prompt_spans:
        if message == question:
            return at
        at += n_tokens
    return 0


def _print_samples(
    console: Console, samples: Sequence[Sample], preface: int, tokenizer: Tokenizer, *, color: bool
) -> None:
    if color:
        paint = format_colorized
        legend = f"{PROMPT_COLOR}read by the model{RESET}  {TRAINED_COLOR}sampled by it, and trained{RESET}"
    else:
        paint, legend = _format_marked, "read by the model  «sampled by it, and trained»"
    for sample in samples:
        token_ids, mask = sample.token_ids.tolist(), sample.loss_mask.tolist()
        _raw(console, f"   {legend}  ↵ a newline token\n")
        _dim(console, f"… {preface} tokens read before this: system message, the tool, worked examples …")
        _raw(console, paint(token_ids[preface:], mask[preface:], tokenizer) + "\n")
        known = int(np.isfinite(sample.logprobs).sum())
        _dim(console, f"{len(token_ids)} tokens; {sum(mask)} sampled and trained; {known} with the engine's logprob")


def _format_marked(token_ids: Sequence[int], weights: Sequence[float], tokenizer: TokenizerLike) -> str:
    """The tape without colours: what is trained in «quotes»."""
    runs = groupby(zip(token_ids, weights, strict=True), key=lambda pair: pair[1] != 0)
    known = Tokenizer.load(tokenizer)
    texts = ((on, known.decode([i for i, _ in run])) for on, run in runs)
    return "".join(f"«{text}»" if on else text for on, text in texts).replace("\n", "↵\n")


def _raw(console: Console, text: str) -> None:
    """Text with ANSI codes of its own, or none: as it stands, without rich's markup or wrapping."""
    console.file.write(text + "\n")
    console.file.flush()


def _print_turns(console: Console, turns: Sequence[Turn]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("turn", "prompt", "= before", "+ new", "sampled"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("outcome", "the prompt begins with"):
        table.add_column(heading, no_wrap=True)
    for number, turn in enumerate(turns, start=1):
        n_prompt, n_new = turn.usage["prompt_tokens"], len(turn.prompt_delta)
        counts = (number, n_prompt, n_prompt - n_new, n_new, len(turn.completion))
        before = turns[number - 2]
        n_before = before.usage["prompt_tokens"] + len(before.completion)
        proof = f"turn {number - 1}'s {n_before} tokens ✓" if number > 1 else ""
        table.add_row(*map(str, counts), turn.outcome, proof)
    console.print(table)


def _print_next_steps(console: Console, db: Path | None) -> None:
    kept = "this tape was temporary and is gone; --db FILE keeps one" if db is None else f"this tape is kept in {db}"
    _title(console, "6", f"Next ({kept})")
    tape = shlex.quote(str(db or "tape.db"))
    _raw(console, f"   serve:  tickertape serve --db {tape}")
    _raw(console, "   agents: base_url=http://127.0.0.1:8700/sessions/NAME/v1, with any name for the session")
    _raw(console, f"   export: tickertape export {tape} samples.parquet")
