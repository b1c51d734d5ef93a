"""Chat completions of the paced engine, as vLLM sends them with `logprobs` and `return_token_ids`.

A proxy that leaves rendering to the engine reads these instead of raw completions.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from benchmarks.null_engine import MODEL, response

ABOUT = {"id": "chatcmpl-paced", "created": 1_700_000_000, "model": MODEL}


def logprobs(token_ids: Sequence[int]) -> dict[str, Any]:
    return {
        "content": [
            {"token": f"token_id:{token_id}", "logprob": -0.0625, "bytes": [32, 97, 98], "top_logprobs": []}
            for token_id in token_ids
        ]
    }


def chunk(token_ids: list[int], finish_reason: str | None, prompt_ids: list[int] | None) -> bytes:
    """A server-sent event with these tokens, as an HTTP chunk. The first has the prompt's ids."""
    choice = {
        "index": 0,
        "delta": {"content": " ab" * len(token_ids)},
        "logprobs": logprobs(token_ids),
        "finish_reason": finish_reason,
        "token_ids": token_ids,
    }
    body = {**ABOUT, "object": "chat.completion.chunk", "prompt_token_ids": prompt_ids, "choices": [choice]}
    data = b"data: %b\n\n" % orjson.dumps(body)
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(token_ids: list[int], prompt_ids: list[int]) -> bytes:
    """A complete answer, head included."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": " ab" * len(token_ids)},
        "logprobs": logprobs(token_ids),
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": token_ids,
    }
    usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": len(token_ids), "total_tokens": 0}
    body = {**ABOUT, "object": "chat.completion", "choices": [choice], "usage": usage, "prompt_token_ids": prompt_ids}
    return response(orjson.dumps(body))
