"""No request holds up the others: while one is read, hashed, rendered and refused, `/health` is answered."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted

pytestmark = pytest.mark.slow

END = 151645
#: Seconds of its own CPU time that the loop may spend while `/health` waits. CPU, as the machine may be busy otherwise.
MOST = 0.25
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": [1, {}]}}\n</tool_call>\n'


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END], max_context=131_072)
    with scripted(engine, tmp_path_factory.mktemp("tape"), served_model_names=("*",)) as proxy:
        yield proxy


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **fields}


def called(arguments: Any) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": arguments}
    return [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ]


TOOLS = [{"type": "function", "function": {"name": f"f{k}"}} for k in range(9000)]
LARGE: dict[str, tuple[str, Any]] = {
    "200,000 tiny messages": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * 200_000}),
    "25,000 tiny messages": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * 25_000}),
    "16 MB of one letter": ("/v1/chat/completions", said("a" * 16_000_000)),
    "2 MB of one letter": ("/v1/chat/completions", said("a" * 2_000_000)),
    "11 million spaces": ("/v1/chat/completions", said(" " * 11_000_000)),
    "1 million spaces": ("/v1/chat/completions", said(" " * 1_000_000)),
    "lines": ("/v1/chat/completions", said("word\n" * 400_000)),
    "parts": ("/v1/chat/completions", said([{"type": "text", "text": "x"}] * 25_000)),
    "calls in words": ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": CALL * 9000}] * 2}),
    "arguments": ("/v1/chat/completions", {"messages": called(json.dumps({"a": [{}] * 300_000}))}),
    "arguments in Python": ("/v1/chat/completions", {"messages": called("{'a': [" + "{'b': None}, " * 100_000 + "]}")}),
    "tools": ("/v1/chat/completions", said("x", tools=TOOLS)),
    "a token prompt": ("/v1/completions", {"prompt": [1] * 1_000_000}),
    "numbers": ("/v1/completions", {"prompt": [1] * 4_000_000}),
    "a text prompt": ("/v1/completions", {"prompt": "word " * 400_000}),
    "empty lists": ("/v1/chat/completions", said("x", x=[[]] * 2_000_000)),
    "to be tokenized": ("/tokenize", {"prompt": "word " * 400_000}),
    "messages to be tokenized": ("/tokenize", {"messages": [{"role": "user", "content": "word " * 400_000}]}),
    "to be counted": ("/v1/messages/count_tokens", {"max_tokens": 5, **said("word " * 400_000)}),
    "to be detokenized": ("/detokenize", {"tokens": [100] * 1_000_000}),
    "responses": ("/v1/responses", {"input": [{"role": "user", "content": "x"}] * 25_000}),
    "blocks": ("/v1/messages", {"max_tokens": 5, **said([{"type": "text", "text": "x"}] * 25_000)}),
    "metadata": ("/sessions", {"metadata": {f"k{k}": k for k in range(300_000)}}),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_large_request_does_not_hold_up_others(proxy: Proxy, name: str) -> None:
    path, fields = LARGE[name]
    body = json.dumps({"model": "m", **fields} if path != "/sessions" else fields).encode()
    answered: list[int] = []

    def ask() -> None:
        headers = {"Content-Type": "application/json"}
        answered.append(httpx.post(proxy.url + path, content=body, headers=headers, timeout=600).status_code)

    asking = threading.Thread(target=ask)
    (loop,) = (thread for thread in threading.enumerate() if thread.name == "tickertape")
    assert loop.ident is not None
    clock = time.pthread_getcpuclockid(loop.ident)
    longest = 0.0
    with httpx.Client(base_url=proxy.url, timeout=600) as health:
        health.get("/health")
        asking.start()
        while asking.is_alive():
            began = time.clock_gettime(clock)
            assert health.get("/health").status_code == 200
            longest = max(longest, time.clock_gettime(clock) - began)
    asking.join()
    assert answered[0] < 500, name
    assert longest < MOST, f"{name}: /health waited for {longest:.3f} s of the loop's CPU"
