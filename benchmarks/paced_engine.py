"""A fake engine that streams as vLLM does: one event for each token, at the pace of a clock.

With `stream_interval: N` in the request, the first token and the end come at once and between them an event holds N
tokens, as of vLLM 0.32; `--ignore-interval` makes it an older server. It is `null_engine.py` otherwise: events are
serialised once and what it is asked is not read, but for `max_tokens`, the interval and what Tickertape tries out at
start. All streams tick together, as in an engine that decodes them in one batch; events that a slow reader does not
take wait in the socket. Chat completions (`paced_chat.py`) are for proxies that leave rendering to the engine.
"""

import argparse
import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import httptools
import orjson
import uvloop

from benchmarks import paced_chat
from benchmarks.null_engine import MODEL, PROBE, answer_probe, models, response
from benchmarks.vocabulary import Vocabulary

CYCLE = 512
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
STREAM = re.compile(rb'"stream": ?true')
INTERVAL = re.compile(rb'"stream_interval":(\d+)')


def event(choice: dict[str, Any] | None, **more: Any) -> bytes:
    """A server-sent event of vLLM's `/v1/completions`, as an HTTP chunk."""
    about = {"id": "cmpl-paced", "object": "text_completion", "created": 1_700_000_000, "model": MODEL}
    data = b"data: %b\n\n" % orjson.dumps({**about, "choices": [] if choice is None else [choice], **more})
    return b"%x\r\n%b\r\n" % (len(data), data)


def tokens(token_ids: list[int], finish_reason: str | None = None) -> bytes:
    names = [f"token_id:{token_id}" for token_id in token_ids]
    logprobs = {
        "text_offset": [0] * len(names),
        "token_logprobs": [-0.0625] * len(names),
        "tokens": names,
        "top_logprobs": [{name: -0.0625} for name in names],
    }
    return event(
        {
            "index": 0,
            "text": "",
            "logprobs": logprobs,
            "finish_reason": finish_reason,
            "stop_reason": None,
            "prompt_token_ids": None,
            "token_ids": token_ids,
        }
    )


@dataclass
class Stream:
    """An answer under way."""

    events: Callable[[int, int, str | None], bytes]
    """From one of its tokens to another, with the reason if it ends there."""
    n_tokens: int
    interval: int
    end: bytes
    made: int = 1
    sent: int = 1


class Clock:
    """Ticks; at each tick every stream gets a token.

    Args:
        ids: of the tokens, which are repeated from the start.
        stop_id: the last token of each answer.
        seconds: between two ticks.
        prompt_tokens: ids of the prompt that chat completions have.
    """

    def __init__(self, ids: list[int], stop_id: int, seconds: float, prompt_tokens: int) -> None:
        self._ids = ids
        self._stop_id = stop_id
        self._prompt = [ids[k % CYCLE] for k in range(prompt_tokens)]
        self._end = event(None, usage={"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0})
        self._end += b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
        self._seconds = seconds
        self._streams: dict[asyncio.Transport, Stream] = {}
        self.tokens = 0
        self._events = cache(self._event)
        self._chunks = cache(self._chunk)
        self._answers = cache(self._answer)

    def _from(self, first: int, beyond: int, finish_reason: str | None) -> list[int]:
        ids = [self._ids[k % CYCLE] for k in range(first, beyond)]
        return ids if finish_reason is None else [*ids[:-1], self._stop_id]

    def _event(self, first: int, beyond: int, finish_reason: str | None) -> bytes:
        return tokens(self._from(first, beyond, finish_reason), finish_reason)

    def _chunk(self, first: int, beyond: int, finish_reason: str | None) -> bytes:
        prompt = self._prompt if first == 0 else None
        return paced_chat.chunk(self._from(first, beyond, finish_reason), finish_reason, prompt)

    def _answer(self, _first: int, beyond: int, finish_reason: str | None) -> bytes:
        return paced_chat.answer(self._from(0, beyond, finish_reason), self._prompt)

    def start(self, transport: asyncio.Transport, n_tokens: int, interval: int) -> None:
        """Streams a raw completion of `n_tokens` tokens; the first is sent at once."""
        transport.write(HEAD + self._events(0, 1, None))
        self._streams[transport] = Stream(self._events, n_tokens, interval, self._end)

    def start_chat(self, transport: asyncio.Transport, n_tokens: int, *, stream: bool) -> None:
        """Answers a chat completion: an event a token, or all of it when the last token is there."""
        if stream:
            transport.write(HEAD + self._chunks(0, 1, None))
            self._streams[transport] = Stream(self._chunks, n_tokens, 1, self._end)
        else:
            self._streams[transport] = Stream(self._answers, n_tokens, n_tokens, b"")

    def stop(self, transport: asyncio.Transport) -> None:
        self._streams.pop(transport, None)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        while True:
            at = max(at + self._seconds, loop.time())
            await asyncio.sleep(at - loop.time())
            for transport, stream in list(self._streams.items()):
                stream.made += 1
                self.tokens += 1
                if stream.made == stream.n_tokens:
                    transport.write(stream.events(stream.sent, stream.made, "stop") + stream.end)
                    self.stop(transport)
                elif stream.made - stream.sent == stream.interval:
                    transport.write(stream.events(stream.sent, stream.made, None))
                    stream.sent = stream.made


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, clock: Clock, *, ignores_interval: bool) -> None:
        self._clock = clock
        self._ignores_interval = ignores_interval
        self._received: list[bytes] = []
        self._parser = httptools.HttpRequestParser(self)
        self._others = {b"/v1/models": models(), b"/version": b'{"version":"0.32.0"}', b"/health": b""}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's)
        self._clock.stop(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_message_complete(self) -> None:
        request = b"".join(self._received)
        self._received.clear()
        if self._path == b"/stats":
            self._transport.write(response(orjson.dumps({"tokens": self._clock.tokens})))
        elif self._path in self._others:
            self._transport.write(response(self._others[self._path]))
        elif self._path == b"/v1/chat/completions":
            asked = MAX_TOKENS.search(request)
            n_tokens = int(asked[1]) if asked else CYCLE
            self._clock.start_chat(self._transport, n_tokens, stream=bool(STREAM.search(request)))
        elif self._path != b"/v1/completions":
            self._transport.write(response(b'{"detail":"Not Found"}', "404 Not Found"))
        elif PROBE.search(request) and not INTERVAL.search(request):
            self._transport.write(answer_probe(request))
        else:
            asked, interval = MAX_TOKENS.search(request), INTERVAL.search(request)
            every = int(interval[1]) if interval and not self._ignores_interval else 1
            self._clock.start(self._transport, int(asked[1]) if asked else CYCLE, every)


async def serve(port: int, clock: Clock, *, ignores_interval: bool) -> None:
    def connection() -> Connection:
        return Connection(clock, ignores_interval=ignores_interval)

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", port, backlog=4096)
    await asyncio.gather(server.serve_forever(), clock.run())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--tokenizer", type=Path, required=True, help="directory whose vocabulary the answer is from")
    options.add_argument("--interval", type=float, required=True, help="seconds between two tokens of a stream")
    options.add_argument("--prompt-tokens", type=int, default=5000, help="that a chat completion's prompt has")
    options.add_argument("--ignore-interval", action="store_true", help="one event a token whatever is asked")
    given = options.parse_args()
    vocabulary = Vocabulary(given.tokenizer)
    _, ids = vocabulary.text(CYCLE)
    clock = Clock(ids, vocabulary.stop_id, given.interval, given.prompt_tokens)
    uvloop.run(serve(given.port, clock, ignores_interval=given.ignore_interval))


if __name__ == "__main__":
    main()
