"""Mutated requests over all routes of a running server: ``python -m tests.fuzz.requests N [FIRST]``.

Each seed takes a request that is well formed, changes its JSON, its path, its headers or its bytes, and sends it. None
may be answered with a 500, and afterwards the server must take turns as before.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.engines import ScriptedEngine
from tests.fuzz import words
from tests.server.conftest import Proxy, scripted

_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_HELLO = [{"role": "user", "content": "Hello"}]
_HISTORY = [
    *_HELLO,
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "x"},
]
_SAMPLING = {"max_tokens": 2, "temperature": 1.0, "stop": ["a"], "n": 1, "seed": 1, "logit_bias": {"1": 1}}
#: Method, path, and body of what is well formed.
REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/chat/completions", {"model": "m", "messages": _HISTORY, "tools": [_TOOL], **_SAMPLING}),
    ("POST", "/sessions/s/v1/chat/completions", {"model": "m", "messages": _HISTORY, "stream": True}),
    ("POST", "/v1/completions", {"model": "m", "prompt": "x", "logprobs": 1, **_SAMPLING}),
    ("POST", "/v1/messages", {"model": "m", "max_tokens": 2, "messages": _HELLO, "system": "x"}),
    ("POST", "/v1/messages/count_tokens", {"model": "m", "messages": _HELLO}),
    ("POST", "/v1/responses", {"model": "m", "input": _HELLO, "instructions": "x", "max_output_tokens": 2}),
    ("GET", "/v1/responses/resp_x", None),
    ("GET", "/v1/models", None),
    ("POST", "/tokenize", {"messages": _HISTORY, "chat_template_kwargs": {"enable_thinking": False}}),
    ("POST", "/detokenize", {"tokens": [1, 2]}),
    ("POST", "/sessions", {"task_id": "t", "group_id": "g", "metadata": {"a": 1}}),
    ("GET", "/sessions?state=open&page_size=2&metadata.a=1", None),
    ("PATCH", "/sessions/s", {"metadata": {"a": 2}}),
    ("POST", "/sessions/s/reward", {"reward": 1.0}),
    ("GET", "/sessions/s/samples?format=json", None),
    ("GET", "/sessions/s/turns", None),
    ("GET", "/samples?page_size=1&after=x", None),
    ("POST", "/samples/lease", {"consumer": "c", "filter": {"metadata": {"a": 1}}, "count": 1}),
    ("POST", "/samples/lease/x/ack", {}),
    ("POST", "/retention", {"keep_days": 1}),
    ("GET", "/admin/engines", None),
    ("POST", "/admin/policy", {"version": "v"}),
    ("POST", "/admin/keys", {"role": "none", "name": "n"}),
    ("GET", "/metrics", None),
)  # fmt: skip
_VALUES = (None, True, 0, -1, 1.5, 1e300, 10**30, "", "x", [], {}, [[]], [None], {"": {}}, "\u0000", "9" * 400)


def mutated(value: Any, rng: Random, chance: float = 0.15) -> Any:
    """A JSON value with something else in a few of its places."""
    if rng.random() < chance:
        return rng.choice((rng.choice(_VALUES), words.text(rng), [value], {"a": value}, "".join(words.arguments(rng))))
    if isinstance(value, dict):
        kept = {key: mutated(inner, rng, chance) for key, inner in value.items() if rng.random() > 0.05}
        return kept | ({words.text(rng, 3): rng.choice(_VALUES)} if rng.random() < 0.05 else {})
    return [mutated(inner, rng, chance) for inner in value] if isinstance(value, list) else value


def request(rng: Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Method, path, body and headers of one request."""
    method, path, body = rng.choice(REQUESTS)
    headers = {"Content-Type": "application/json"}
    if rng.random() < 0.1:
        method = rng.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
    if rng.random() < 0.1:
        at = rng.randrange(1, len(path))
        path = path[:at] + rng.choice(("%00", "%2F", "..", "//", "é", "?", "&a=", "%ff", ";", "=")) + path[at:]
    if rng.random() < 0.1:
        headers[rng.choice(("X-Session-Id", "Content-Type", "X-Request-Id", "X-Tickertape-Min-Version", "Accept"))] = (
            words.text(rng, 3).encode("ascii", "ignore").decode().translate(dict.fromkeys((*range(32), 127))).strip()
        )
    if body is None:
        return method, path, None, headers
    written = json.dumps(mutated(body, rng)).encode()
    if rng.random() < 0.1:
        at = rng.randrange(len(written))
        written = written[:at] + words.text(rng, 3).encode() + written[at + rng.randrange(4) :]
    return method, path, written, headers


class Requests:
    """Sends seeds to a server."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.statuses: Counter[int] = Counter()

    def run(self, seed: int) -> None:
        """
        Raises:
            AssertionError: the answer is a 500.
        """
        method, path, body, headers = request(Random(seed))
        try:
            answer = self._proxy.http.request(method, path, content=body, headers=headers)
        except httpx.InvalidURL:
            return
        self.statuses[answer.status_code] += 1
        assert answer.status_code != 500, f"seed {seed}: {method} {path} {body!r:.500}: {answer.text[:500]}"


def main() -> None:
    number, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    with scripted(engine, Path(tempfile.mkdtemp()), served_model_names=("*",)) as proxy:
        requests, failed, began = Requests(proxy), 0, time.monotonic()
        for seed in range(first, first + number):
            try:
                requests.run(seed)
            except AssertionError as error:
                failed += 1
                print(error, flush=True)
            if (seed + 1 - first) % 10_000 == 0:
                print(f"{seed + 1 - first:,} of {number:,} after {time.monotonic() - began:,.0f} s", flush=True)
        assert proxy.chat(None, list(_HELLO)).status_code == 200
        print(f"{number:,} requests, {failed} of them answered with a 500: {dict(sorted(requests.statuses.items()))}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
