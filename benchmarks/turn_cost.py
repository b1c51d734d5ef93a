"""What a turn costs as its conversation grows: `python -m benchmarks.turn_cost`, from the root.

An agent's tool loop goes through everything but HTTP, one turn at a time, over several sessions; the table has the
median CPU time of the 5th, the 50th, … turn, by step:

- *bytes*: what no proxy that reads JSON and sends token ids can leave out: the request's JSON read, by orjson, and the
  prompt's ids written;
- *read*: the request checked and made messages, beyond that;
- *match*: messages normalised and digested;
- *take*: the turn looked up, bridged, parsed and put on tape, the engine's time being nothing;
- *write*: the answer as JSON.

"Beyond the bytes" is all of it but *bytes*.
"""

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise

import orjson

from benchmarks.table import machine, show_table
from benchmarks.tool_loop import body, hermes_call, next_messages, opening, running_turns, thought
from tickertape.renderers.choose import choose_renderer
from tickertape.server.dialects.chat import request as chat
from tickertape.server.turns.waiters import Waiters

STEPS = ("bytes", "read", "match", "take", "write")
SHOWN = (5, 10, 25, 50, 100, 200)


async def measure(n_turns: int, sessions: int) -> list[dict[int, list[float]]]:
    """For each session and turn, the seconds of every step; turns are counted from 1. Last: tokens and bytes."""
    from tests.materials import QWEN3

    measured: list[dict[int, list[float]]] = []
    async with running_turns(choose_renderer(QWEN3.tokenizer)) as (turns, engine):
        encode, token_bytes = QWEN3.tokenizer.encode_like_model, QWEN3.tokenizer.token_bytes
        for number in range(sessions + 1):
            session, messages, costs = f"session {number}", opening(number), {}
            for turn in range(1, n_turns + 1):
                at = 1000 * number + turn
                said = f"I read file {at}.{hermes_call(at, tidy=False)}"
                engine.completion = encode(f"<think>\n{thought(at)}\n</think>\n\n{said}<|im_end|>")
                request = body(messages)
                gc.collect(0)
                marks = [time.process_time()]
                orjson.loads(request)
                marks.append(time.process_time())
                wanted = chat.read_request(request)
                marks.append(time.process_time())
                asked = turns.asked(wanted)
                marks.append(time.process_time())
                results = await turns.take(session, wanted, asked, is_new=turn == 1, waiters=Waiters())
                marks.append(time.process_time())
                orjson.dumps(chat.write_response(results, token_bytes, wants_logprobs=False))
                marks.append(time.process_time())
                node = (await turns.sessions.get(session)).ending_with(results[0].turn.context_digest)[-1]
                ids = node.stream()
                written = time.process_time()
                orjson.dumps({"prompt": ids}, option=orjson.OPT_SERIALIZE_NUMPY)
                written = time.process_time() - written
                reading, checking, *others = (after - before for before, after in pairwise(marks))
                answer = results[0].turn.response
                assert answer is not None
                costs[turn] = [reading + written, max(0.0, checking - reading), *others, len(ids), len(request)]
                messages += [answer, *next_messages(answer, at)]
            if number:  # the first one warms up
                measured.append(costs)
    return measured


def row(turn: int, measured: Sequence[dict[int, list[float]]]) -> list[str]:
    columns = [statistics.median(costs[turn][k] for costs in measured) for k in range(len(STEPS) + 2)]
    *seconds, n_tokens, size = columns
    beyond = sum(seconds[1:])
    return [
        str(turn),
        f"{n_tokens:,.0f}",
        f"{size / 1000:,.0f}",
        *(f"{1000 * value:.2f}" for value in seconds),
        f"{1000 * beyond:.2f}",
    ]


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.turn_cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--turns", type=int, default=100)
    options.add_argument("--sessions", type=int, default=12)
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    measured = asyncio.run(measure(given.turns, given.sessions))
    titles = ["turn", "tokens", "KB\nrequest", *(f"{step}\nms" for step in STEPS), "beyond the\nbytes, ms"]
    rows = [row(turn, measured) for turn in SHOWN if turn <= given.turns]
    show_table(titles, [rows], [machine(), f"medians of {given.sessions} sessions"], markdown=given.markdown)


if __name__ == "__main__":
    main()
