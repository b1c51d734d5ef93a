"""A fake engine that outlives what it serves: `python -m tests.durability.engine`, a process that says its URL.

It speaks vLLM's `/v1/completions`, samples random words, thoughts, tool calls and rubbish (`RandomEngine`), seeded by
the request's id, so that no two requests are answered alike, and streams them in its own time. `GET /record` tells what
it was asked and what it sent.
"""

import argparse
import asyncio
import hashlib
import random
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from aiohttp import web

from tests.engines import faulty_vllm, vllm_event
from tests.server.traffic import RandomEngine

CONTEXT = 32_768


def digest(prompt_ids: Sequence[int]) -> str:
    """By which a prompt is known again."""
    return hashlib.sha256(np.asarray(prompt_ids, np.int32).tobytes()).hexdigest()[:32]


class PacedSampler(RandomEngine):
    """Answers over HTTP.

    Args:
        delay: mean seconds between two chunks.
        record: what it was asked and what it sent, by request id; ``None`` keeps none.
    """

    def __init__(self, delay: float, record: dict[str, Any] | None) -> None:
        super().__init__()
        self._delay, self._record = delay, record

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked, request_id = await request.json(), request.headers["X-Request-Id"]
        self._random = chance = random.Random(request_id)
        token_ids = self._completion()[: asked["max_tokens"]]
        ended = token_ids[-1] in asked["stop_token_ids"]
        call: dict[str, Any] = {"prompt": digest(asked["prompt"]), "token_ids": [], "logprobs": [], "whole": False}
        if self._record is not None:
            self._record[request_id] = call
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        at = 0
        while at < len(token_ids):
            await asyncio.sleep(chance.uniform(0, 2 * self._delay))
            some = token_ids[at : at + chance.randint(1, 12)]
            at += len(some)
            logprobs = [-chance.random() for _ in some]
            call["token_ids"] += some
            call["logprobs"] += logprobs
            finish = None if at < len(token_ids) else "stop" if ended else "length"
            await self._send(response, vllm_event(some, logprobs, finish))
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": len(token_ids)}
        await self._send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        call["whole"] = True
        return response

    async def _send(self, response: web.StreamResponse, event: dict[str, Any]) -> None:
        await response.write(b"data: %b\n\n" % orjson.dumps(event))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--delay", type=float, default=0.02, help="mean seconds between two chunks")
    options.add_argument("--forget", action="store_true", help="keep no record")
    given = options.parse_args()
    record: dict[str, Any] = {}
    sampler = PacedSampler(given.delay, None if given.forget else record)
    with faulty_vllm(sampler.answer, max_model_len=CONTEXT, others={"/record": record}) as url:
        print(url, flush=True)
        sys.stdin.read()  # until whoever started it is gone


if __name__ == "__main__":
    main()
