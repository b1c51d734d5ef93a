"""One way to render, in a process of its own, timed call by call: ``-m benchmarks.renderer_worker NAME DIRECTORY``.

It reads lines of ``MEASURE FIRST COUNT`` and answers each with a line of JSON: the seconds of ``COUNT`` calls, and a
digest of their results. Inputs are made before the clock starts, and no two numbers, from ``FIRST`` on, have the same.
"""

import json
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.conversation import TOOLS, completion, conversation, tool_result

Message = dict[str, Any]


class Contender(NamedTuple):
    """What is measured. Each gives ids, or how many tool calls it read."""

    encode: Callable[[str], list[int]]
    """Text as sampled to ids, control tokens counting."""
    render: Callable[[list[Message]], list[int]]
    bridge: Callable[[list[int], list[int], Message], list[int]] | None
    parse: Callable[[list[int]], int] | None


def tickertape(directory: str, name: str) -> Contender:
    from tickertape.renderers import get_renderer

    renderer = get_renderer(name, directory)

    def bridge(prompt: list[int], sampled: list[int], message: Message) -> list[int]:
        bridged = renderer.bridge_to_next_turn(prompt, sampled, [message], TOOLS)
        if bridged is None:
            raise SystemExit(f"{name} does not bridge")
        return bridged.token_ids

    return Contender(
        renderer.tokenizer.encode_like_model,
        lambda messages: renderer.build_generation_prompt(messages, TOOLS).token_ids,
        bridge,
        lambda ids: len(renderer.parse_response(ids, TOOLS).tool_calls),
    )


def transformers(directory: str) -> Contender:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    options = {"tools": TOOLS, "add_generation_prompt": True, "tokenize": True, "return_dict": False}
    return Contender(
        lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        lambda messages: list(tokenizer.apply_chat_template(messages, **options)),
        None,
        None,
    )


def peer(directory: str) -> Contender:
    """PrimeIntellect's ``renderers``, with the tokenizer that it loads itself."""
    # Run from the repository, `renderers` would be a folder of it.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent.parent]
    package = import_module("renderers")
    tokenizer = import_module("renderers.base").load_tokenizer(directory)
    renderer = package.create_renderer(tokenizer, package.Qwen3RendererConfig())

    def bridge(prompt: list[int], sampled: list[int], message: Message) -> list[int]:
        bridged = renderer.bridge_to_next_turn(prompt, sampled, [message], tools=TOOLS)
        if bridged is None:
            raise SystemExit("renderers does not bridge")
        return list(bridged.token_ids)

    return Contender(
        lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        lambda messages: list(renderer.render_ids(messages, tools=TOOLS, add_generation_prompt=True)),
        bridge,
        lambda ids: len(renderer.parse_response(ids, tools=TOOLS).tool_calls),
    )


def contender(name: str, directory: str) -> Contender:
    if name == "peer":
        return peer(directory)
    return transformers(directory) if name == "transformers" else tickertape(directory, name)


def call(subject: Contender, prompt: list[int], measure: str, number: int) -> Callable[[], Any] | None:
    """The call to time, its input made; ``None`` where the contender cannot do it."""
    if measure == "render":
        messages = conversation(number)
        return lambda: subject.render(messages)
    sampled = subject.encode(completion(number))
    if measure == "bridge":
        message, bridge = tool_result(number), subject.bridge
        return None if bridge is None else lambda: bridge(prompt, sampled, message)
    parse = subject.parse
    return None if parse is None else lambda: parse(sampled)


def main() -> None:
    name, directory = sys.argv[1:]
    subject = contender(name, directory)
    prompt = subject.render(conversation(0))
    print(json.dumps({"prompt": len(prompt), "completion": len(subject.encode(completion(0)))}), flush=True)
    for line in sys.stdin:
        measure, first, count = line.split()
        calls = [call(subject, prompt, measure, int(first) + k) for k in range(int(count))]
        seconds, digest = [], sha256()
        for timed in filter(None, calls):
            start = time.perf_counter()
            result = timed()
            seconds.append(time.perf_counter() - start)
            digest.update(repr(result).encode())
        print(json.dumps({"seconds": seconds, "digest": digest.hexdigest()}), flush=True)


if __name__ == "__main__":
    main()
