"""What Tickertape adds to real engines' streams: `python -m benchmarks.engines vllm sglang embedded`, from the root.

Each engine samples SmolLM2-135M on this machine's CPU. One stream at a time: the same prompt, at temperature 0, through
the proxy (an agent's chat stream over HTTP) and at the engine itself (by Tickertape's own client for it, in this
process), in turns. The prompt was asked before, so both find it in the engine's prefix cache.

"Added" compares a pair of streams: how much later the proxy's client had the first token, and token k for every k. The
engine's own unrest is in it, in both directions: its spread is what the p95 shows. "CPU s per 1,000 tokens" is the time
of the proxy's process over its streams; the embedded engine samples in the same process, so it has none. It samples 16
tokens at a time, so its first token comes with 15 others.

The servers are those of the tests (`.ci/install-engine`), started here and ended.
"""

import argparse
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import uvloop

from benchmarks.children import Child, child
from benchmarks.streaming import ms, quantile
from benchmarks.table import machine, show_table
from tests.real.engines import started
from tests.real.models import smollm2
from tickertape.clients.engines.choose import make_engine
from tickertape.clients.engines.embedded.engine import EmbeddedEngine
from tickertape.clients.engines.embedded.gguf import tokenizer_from_gguf
from tickertape.clients.engines.embedded.model_file import model_file
from tickertape.clients.engines.engine import Engine, Sampling, TokenIds

QUESTION = "Tell me a long story about a train that crosses the mountains in winter."
TOKENS = 64
UNCOUNTED = 2


@dataclass
class Arrivals:
    """When tokens came, by stream: seconds from the request, one for each token."""

    streams: list[list[float]] = field(default_factory=list)

    @property
    def firsts(self) -> list[float]:
        return [stream[0] for stream in self.streams]

    @property
    def gaps(self) -> list[float]:
        """Seconds between two pieces: tokens that come together have none between them."""
        found = (after - before for stream in self.streams for before, after in itertools.pairwise(stream))
        return [gap for gap in found if gap > 0]


async def directly(engine: Engine, prompt_ids: TokenIds, request_id: str) -> list[float]:
    """A stream at the engine."""
    sampling = Sampling(TOKENS, temperature=0.0, ignore_eos=True)
    arrivals: list[float] = []
    start = time.perf_counter()
    async with aclosing(engine.generate(prompt_ids, sampling, request_id=request_id)) as chunks:
        async for chunk in chunks:
            arrivals += [time.perf_counter() - start] * len(chunk.token_ids)
    return arrivals


async def through_the_proxy(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> list[float]:
    """The same as an agent's stream. It asks for logprobs, of which there is one for each token."""
    arrivals: list[float] = []
    start = time.perf_counter()
    async with http.post(url, json={**body, "logprobs": True}) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            count = line.count(b'"bytes":')
            arrivals += [time.perf_counter() - start] * count
    return arrivals


async def measure(proxy: Child, engine: Engine, calls: int) -> tuple[Arrivals, Arrivals, float]:
    """Streams at the engine, the same through the proxy, and the proxy's CPU seconds for each of its tokens."""
    at_engine, at_proxy, cpu = Arrivals(), Arrivals(), 0.0
    url = f"http://127.0.0.1:{proxy.port}"
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await engine.start()
        stack.push_async_callback(engine.close)
        async with http.get(f"{url}/v1/models") as answer:
            model = (await answer.json())["data"][0]["id"]
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": True}
        body |= {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        prompt_ids = np.empty(0, np.int32)
        for call in range(-UNCOUNTED, calls):
            session = f"{url}/sessions/call-{call + UNCOUNTED}"
            before = proxy.cpu_seconds()
            proxied = await through_the_proxy(http, f"{session}/v1/chat/completions", body)
            spent = proxy.cpu_seconds() - before
            if not len(prompt_ids):
                async with http.get(f"{session}/turns") as answer:
                    record = await answer.json()
                    (turn,) = record if isinstance(record, list) else record["turns"]
                    prompt_ids = np.array(turn["prompt_delta"], np.int32)
            direct = await directly(engine, prompt_ids, f"direct-{call}")
            if len(direct) != TOKENS or len(proxied) != TOKENS:
                raise SystemExit(f"{len(direct)} and {len(proxied)} tokens came, of {TOKENS}")
            if call >= 0:
                at_engine.streams.append(direct)
                at_proxy.streams.append(proxied)
                cpu += spent
    return at_engine, at_proxy, cpu / (calls * TOKENS)


@contextmanager
def running_pair(kind: str, scratch: Path) -> Iterator[tuple[Child, Engine]]:
    """A proxy, and the engine that it asks."""
    with ExitStack() as stack:
        arguments = ["serve", "--host", "127.0.0.1", "--db", str(scratch / f"{kind}.db")]
        engine: Engine
        if kind == "embedded":
            path = model_file(say=print)
            engine = EmbeddedEngine(path, tokenizer_from_gguf(path), context=2048, parallel=1)
            arguments += ["--context", "2048", "--parallel", "1"]
        else:
            server = stack.enter_context(started(kind, smollm2(), scratch / f"{kind}.log"))  # type: ignore[arg-type]
            spec = f"{kind}={server.url}"
            engine = make_engine(spec, None)
            arguments += ["--engine", spec, "--model", str(server.model)]
        log = scratch / f"proxy-{kind}.log"
        proxy = stack.enter_context(child("tickertape.server", *arguments, core=None, ready="/ready", log=log))
        yield proxy, engine


def rows_of(kind: str, at_engine: Arrivals, at_proxy: Arrivals, cpu: float) -> list[list[str]]:
    pairs = list(zip(at_engine.streams, at_proxy.streams, strict=True))
    firsts = [proxied[0] - direct[0] for direct, proxied in pairs]
    tokens = [after - before for direct, proxied in pairs for before, after in zip(direct, proxied, strict=True)]

    def both(values: list[float]) -> list[str]:
        return [ms(quantile(values, 50)), ms(quantile(values, 95))]

    shown_cpu = "" if kind == "embedded" else f"{1000 * cpu:.3f}"
    return [
        [kind, "engine", *both(at_engine.firsts), "", "", *both(at_engine.gaps), "", "", ""],
        [kind, "Tickertape", *both(at_proxy.firsts), *both(firsts), *both(at_proxy.gaps), *both(tokens), shown_cpu],
    ]


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.engines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("kinds", nargs="*", default=["embedded"], choices=["vllm", "sglang", "embedded"])
    options.add_argument("--calls", type=int, default=20, help="pairs of streams")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave every `with`, so that no child is left behind
    sections = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for kind in given.kinds:
            print(f"{kind} …", file=sys.stderr, flush=True)
            with running_pair(kind, Path(scratch)) as (proxy, engine):
                sections.append(rows_of(kind, *uvloop.run(measure(proxy, engine, given.calls))))
    titles = ["engine", "path", "first token\np50 ms", "p95", "added\np50 ms", "p95"]
    titles += ["gap\np50 ms", "p95", "token k\nadded p50", "p95", "CPU s per\n1,000 tokens"]
    load = f"{given.calls} pairs of streams of {TOKENS} tokens; load average {os.getloadavg()[0]:.1f}"
    show_table(titles, sections, [machine(), load], markdown=given.markdown)


if __name__ == "__main__":
    main()
