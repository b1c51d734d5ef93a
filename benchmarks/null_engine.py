"""A fake engine that computes nothing: every completion is the same 128 tokens, answered from memory.

It speaks what vLLM 0.32 speaks on `/v1/completions`, streamed, on `/v1/models` and `/health`, and does as little as it
can per request, because it shares its core with the load generator: answers are serialised once, bodies are skipped
unread, and all tokens come in one event. Only what Tickertape tries out at start is read and answered as asked.
`GET /stats` tells how many completions it served and how many bytes came with them, so that a benchmark can show that
whole contexts reached the engine. With `--seconds` each completion takes so long; `GET /prompts` then gives a digest of
every prompt, so that a tape can be held against what was really asked.

One thing differs from vLLM: `prompt_token_ids` is null unless `--echo-prompt` is given. The echo makes a response as
large as its request, for every caller alike.
"""

import argparse
import asyncio
import hashlib
import re
from pathlib import Path
from typing import cast

import httptools
import orjson
import uvloop

from benchmarks.vocabulary import Vocabulary

MODEL = "null"
MAX_MODEL_LEN = 262_144
COMPLETION_TOKENS = 128
#: Bytes of a request that may be a client's probe, and what it is known by.
SMALL = 4096
PROBE = re.compile(rb"x-request-id: probe-", re.IGNORECASE)
ECHO_SLOT = b'"prompt_token_ids":null'


def completion(text: str, ids: list[int], first: float = -0.0625) -> bytes:
    """The body of vLLM's answer to a streamed request with `logprobs: 0`, `return_token_ids`,
    `return_tokens_as_token_ids` and `include_usage`."""
    logprobs = [first - 0.001953125 * i for i in range(len(ids))]
    names = [f"token_id:{i}" for i in ids]
    choice = {
        "index": 0,
        "text": text,
        "logprobs": {
            "text_offset": list(range(len(ids))),
            "token_logprobs": logprobs,
            "tokens": names,
            "top_logprobs": [{name: logprob} for name, logprob in zip(names, logprobs, strict=True)],
        },
        "finish_reason": "stop",
        "stop_reason": None,
        "prompt_token_ids": None,
        "token_ids": ids,
    }
    about = {"id": "cmpl-null", "object": "text_completion", "created": 1_700_000_000, "model": MODEL}
    usage = {"prompt_tokens": 0, "total_tokens": len(ids), "completion_tokens": len(ids)}
    return b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (
        orjson.dumps({**about, "choices": [choice]}),
        orjson.dumps({**about, "choices": [], "usage": usage, "system_fingerprint": "null-engine"}),
    )


def models() -> bytes:
    card = {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "vllm", "root": MODEL}
    return orjson.dumps({"object": "list", "data": [card | {"parent": None, "max_model_len": MAX_MODEL_LEN}]})


def answer_probe(request: bytes) -> bytes:
    """What a client's probe is answered: the token that it forces. No logprobs of prompts, and no structures."""
    body = orjson.loads(request[request.index(b"\r\n\r\n") :])
    if "prompt_logprobs" in body:
        return response(b'{"error":{"message":"no prompt_logprobs"}}', "400 Bad Request")
    return response(completion("", [int(token) for token in body["logit_bias"] or (0,)], -11.0))


def response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Answers:
    """What the engine says, ready to send, and what it has heard so far."""

    def __init__(self, text: str, ids: list[int], *, echo: bool, seconds: float = 0) -> None:
        body = completion(text, ids)
        self.echo = echo
        self.seconds = seconds
        self.prompts: list[str] = []
        self.completion = response(body)
        self._before_echo, self._after_echo = body.split(ECHO_SLOT)
        self._others = {
            b"/v1/models": response(models()),
            b"/version": response(b'{"version":"0.32.0"}'),
            b"/health": response(b""),
        }
        self.requests = 0
        self.bytes = 0

    def echoing(self, request: bytes) -> bytes:
        """The completion with the request's prompt."""
        return response(b"".join((self._before_echo, b'"prompt_token_ids":', prompt_of(request), self._after_echo)))

    def other(self, path: bytes) -> bytes:
        if path == b"/stats":
            return response(orjson.dumps({"requests": self.requests, "bytes": self.bytes}))
        if path == b"/prompts":
            return response(orjson.dumps(self.prompts))
        return self._others.get(path) or response(b'{"detail":"Not Found"}', "404 Not Found")


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._chunks: list[bytes] = []
        self._path = b""
        self._received = 0
        self._small: list[bytes] = []
        if answers.echo or answers.seconds:
            self.on_body = self._chunks.append  # the parser copies bodies out only for who asks
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= SMALL:
            self._small.append(data)
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_message_complete(self) -> None:
        answers = self._answers
        if self._path != b"/v1/completions":
            self._transport.write(answers.other(self._path))
        elif self._received <= SMALL and PROBE.search(request := b"".join(self._small)):
            self._transport.write(answer_probe(request))
        else:
            answers.requests += 1
            answers.bytes += self._received
            if answers.seconds:
                answers.prompts.append(digest(prompt_of(b"".join(self._chunks))))
                asyncio.get_running_loop().call_later(answers.seconds, self._transport.write, answers.completion)
                self._clear()
                return
            self._transport.write(answers.echoing(b"".join(self._chunks)) if answers.echo else answers.completion)
        self._clear()

    def _clear(self) -> None:
        self._received = 0
        self._small.clear()
        self._chunks.clear()


def prompt_of(request: bytes) -> bytes:
    """The request's prompt, which is cut out of its JSON and never parsed."""
    start = request.index(b"[", request.index(b'"prompt"'))
    return request[start : request.index(b"]", start) + 1]


def digest(prompt: bytes) -> str:
    """Of a prompt as JSON without spaces."""
    return hashlib.sha256(prompt).hexdigest()


async def serve(port: int, answers: Answers) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answers), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--tokenizer", type=Path, required=True, help="directory whose vocabulary the answer is from")
    options.add_argument("--echo-prompt", action="store_true", help="answer with the request's prompt_token_ids")
    options.add_argument("--seconds", type=float, default=0, help="that a completion takes")
    given = options.parse_args()
    vocabulary = Vocabulary(given.tokenizer)
    text, ids = vocabulary.text(COMPLETION_TOKENS - 1)
    uvloop.run(
        serve(given.port, Answers(text, [*ids, vocabulary.stop_id], echo=given.echo_prompt, seconds=given.seconds))
    )


if __name__ == "__main__":
    main()
