"""What exact prefixes save a trainer: `python -m benchmarks.merging`, from the root.

An agent runs an append-only tool loop: a thought and a tool call in each turn, and after every tenth turn an answer and
a further task. Tickertape takes the turns and makes samples of them. The same conversation is then rendered anew for
every turn, as a trainer does that has messages only: through the model's own chat template, with the messages as
the agent's client repeats them. A turn's prompt that begins with all of the last sample extends it; else it is a new
sample.

The model is of two kinds: one writes its calls to the letter as its template would write them again, which is the best
case for rendering anew; the other leaves out a space or a line break, as models do.

"Tokens" are those of all samples together, which is what a trainer pays for.
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

from benchmarks.conversation import TOOLS
from benchmarks.table import machine, show_table
from benchmarks.tool_loop import Message, body, hermes_call, next_messages, opening, running_turns, thought, xml_call
from tickertape.renderers.choose import choose_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.dialects.chat import request as chat
from tickertape.server.trajectories.samples import samples
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.waiters import Waiters

EVERY = 10
SESSION = "loop"


async def play(
    tokenizer: Tokenizer, call: Callable[[int], str], n_turns: int
) -> tuple[list[Turn], list[list[Message]]]:
    """The turns on tape, and the messages of every request, the last answer behind them."""
    requests: list[list[Message]] = []
    async with running_turns(choose_renderer(tokenizer)) as (turns, engine):
        messages = opening(1)
        renderer = turns.renderers.choice.renderer
        opening_tag = "" if renderer.response_format.starts_in_reasoning else "<think>\n"
        for number in range(n_turns):
            is_call = (number + 1) % EVERY != 0
            said = f"I read file {number}.{call(number)}" if is_call else f"Task {number} is done."
            text = opening_tag + f"{thought(number)}\n</think>\n\n{said}<|im_end|>"
            engine.completion = tokenizer.encode_like_model(text)
            requests.append(list(messages))
            wanted = chat.read_request(body(messages))
            asked = turns.asked(wanted)
            (result,) = await turns.take(SESSION, wanted, asked, is_new=not number, waiters=Waiters())
            answer = result.turn.response
            assert answer is not None
            messages += [answer, *next_messages(answer, number)]
        taken = await turns.store.turns(SESSION)
    assert taken is not None
    return taken, requests


def rendered_anew(
    render: Callable[[Sequence[Message]], list[int]],
    requests: Sequence[list[Message]],
    turns: Sequence[Turn],
    *,
    thoughts: bool,
) -> list[int]:
    """Lengths of the samples that come of rendering every request through the template."""
    lengths: list[int] = []
    last: list[int] = []
    for messages, turn in zip(requests, turns, strict=True):
        kept = [m if thoughts else {k: v for k, v in m.items() if k != "reasoning_content"} for m in messages]
        prompt = render(kept)
        if last and prompt[: len(last)] == last:
            lengths.pop()
        last = prompt + turn.completion.tolist()
        lengths.append(len(last))
    return lengths


def template_ids(oracle: Any, chat_template: str, messages: Sequence[Message]) -> list[int]:
    """A prompt as the model's own template has it. It prints the arguments of a call from their value."""
    shown = [dict(message) for message in messages]
    for message in shown:
        if calls := message.get("tool_calls"):
            functions = [call["function"] | {"arguments": json.loads(call["function"]["arguments"])} for call in calls]
            message["tool_calls"] = [{"type": "function", "function": function} for function in functions]
    options = {"tools": TOOLS, "chat_template": chat_template, "add_generation_prompt": True, "return_dict": False}
    return list(oracle.apply_chat_template(shown, **options))


def row(model: str, way: str, lengths: Sequence[int], ours: int) -> list[str]:
    return [model, way, str(len(lengths)), f"{sum(lengths):,}", f"{sum(lengths) / ours:.1f}"]


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.merging", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--turns", type=int, default=50)
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    from tests.materials import QWEN3, QWEN35, template

    sections = []
    for model, vocabulary, name, call in (
        ("Qwen3", QWEN3, "Qwen-Qwen3-0.6B", hermes_call),
        ("Qwen3.5", QWEN35, "Qwen3.5-4B", xml_call),
    ):
        tokenizer = copy(vocabulary.tokenizer)
        tokenizer.chat_template = template(name)
        render = partial(template_ids, vocabulary.oracle, template(name))
        for tidy, manner in ((True, "calls as the template's"), (False, "calls of its own")):
            turns, requests = asyncio.run(play(tokenizer, partial(call, tidy=tidy), given.turns))
            ours = [len(sample.token_ids) for sample in samples(turns)]
            rows = [row(f"{model}, {manner}", "Tickertape", ours, sum(ours))]
            for thoughts, way in ((True, "rendered anew"), (False, "rendered anew, thoughts dropped by the client")):
                lengths = rendered_anew(render, requests, turns, thoughts=thoughts)
                rows.append(row("", way, lengths, sum(ours)))
            sections.append(rows)
    titles = ["model", "way", "samples", "tokens", "of ours"]
    show_table(titles, sections, [machine(), f"{given.turns} turns"], markdown=given.markdown)


if __name__ == "__main__":
    main()
