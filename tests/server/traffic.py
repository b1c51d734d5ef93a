"""Random agents: an engine that samples random tokens, and a reference that says where each turn must hang.

The reference is written the plain way, with lists of messages for keys, and shares no code with the server.
"""

import json
import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from tests.engines import Call
from tests.server.conftest import qwen3_tokenizer
from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineUnavailable

Messages = list[dict[str, Any]]

#: Seeds by which an agent asks the engine for trouble.
FAILS, DAWDLES = 1, 2
END = 151645


class RandomEngine(Engine):
    """Samples random words, thoughts, tool calls and rubbish, in chunks of random size."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self._random = random.Random(0)
        self._words = [i for i in range(151_000) if _is_word(qwen3_tokenizer().decode([i]))]

    async def start(self) -> EngineInfo:
        return EngineInfo("random", "nowhere", "random", 32_768)

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        import asyncio

        call = self.calls[request_id] = Call(prompt_ids.tolist(), sampling)
        ids = self._completion()[: sampling.max_tokens]
        at = 0
        while at < len(ids):
            await asyncio.sleep(2 if sampling.seed == DAWDLES else 0)
            if sampling.seed == FAILS and at:
                raise EngineUnavailable("as the agent asked for")
            some = ids[at : at + self._random.randint(1, 12)]
            at += len(some)
            logprobs = [-self._random.random() for _ in some]
            call.token_ids += some
            call.logprobs += logprobs
            yield Chunk(some, logprobs, policy_version=f"v{len(self.calls) // 50}")
        stopped = ids[-1] in sampling.stop_token_ids
        yield Chunk([], [], finish_reason="stop" if stopped else "length", stop_reason=ids[-1] if stopped else None)

    def _completion(self) -> list[int]:
        encode, kind = qwen3_tokenizer().encode_like_model, self._random.random()
        said = self._some_words()
        if kind < 0.2:
            said = [*encode("<think>\n"), *self._some_words(), *encode("\n</think>\n\n"), *said]
        if kind > 0.7:
            said = [*said, *encode("".join(self._call() for _ in range(self._random.randint(1, 3))))]
        if 0.2 < kind < 0.35:
            said = [*said, *(self._random.randrange(151_669) for _ in range(9))]  # any token, control tokens too
            said = said[: next((k for k, i in enumerate(said) if i in (END, 151643)), None)]
        return [*said, END if kind > 0.03 else 151643]

    def _some_words(self) -> list[int]:
        return [self._random.choice(self._words) for _ in range(self._random.randint(5, 20))]

    def _call(self) -> str:
        key = qwen3_tokenizer().decode(self._some_words())
        spaces = " " * self._random.randint(0, 2)
        arguments = f'{{"key":{spaces}{json.dumps(key)}, "exact": false, "b":{spaces}1.0, "a": null}}'
        return f'\n<tool_call>\n{{"name": "look_up", "arguments": {arguments}}}\n</tool_call>'


def _is_word(text: str) -> bool:
    return len(text) > 4 and text[0] == " " and text[1:].isalpha() and text.isascii()


@dataclass
class Expected:
    """Where a turn must hang and why."""

    parent: str | None
    reason: str | None
    parent_is_known: bool = True


Key = tuple[Any, ...]


def key(messages: Messages) -> Key:
    """Messages as they are told apart."""
    return tuple(
        (
            m["role"],
            m["content"] or "",
            *((c["function"]["name"], _value(c["function"]["arguments"])) for c in m.get("tool_calls") or ()),
        )
        for m in messages
    )


def _value(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True).replace("1.0", "1")
    except ValueError:
        return arguments


@dataclass
class Reference:
    """What is known of one session."""

    answered: dict[Key, list[tuple[str, Any]]] = field(default_factory=dict)
    """Turns by the conversation that they end, oldest first, with the rules (tools, options) that they follow."""
    asked: Counter[Key] = field(default_factory=Counter)
    extensions: Counter[str | None] = field(default_factory=Counter)
    depths: dict[Key, int] = field(default_factory=dict)
    """For each answer, how many messages stood before it when it was last given."""

    def expect(self, messages: Messages, rules: Any, n: int = 1, *, continues: bool = False) -> Expected:
        """What a request's first turn must be; it counts as begun.

        Args:
            messages: the request's, as the server told and as the agent wrote them.
            rules: tools and options.
            n: choices asked for.
            continues: whether it goes on with the last message.
        """
        keys = key(messages)
        refused: str | None = None
        parent: str | None = None
        covered = 0
        for covered in range(len(keys) - (not continues), 0, -1):
            for turn_id, followed in reversed(self.answered.get(keys[:covered], [])):
                if followed == rules:
                    parent = parent or turn_id
                elif parent is None and refused is None:
                    refused = "tools_changed" if followed[0] != rules[0] else "template_options_changed"
            if parent or continues:
                break
        else:
            covered = 0
        reason = refused
        if refused is None and self.extensions[parent]:
            reason = "resampled" if self.asked[keys] else self._label(keys, parent, covered)
        self.asked[keys] += n
        self.extensions[parent] += n
        return Expected(parent, reason, parent_is_known=refused is None or parent is not None)

    def _label(self, keys: Key, parent: str | None, covered: int) -> str:
        labels = []
        for at in range(covered, len(keys)):
            if keys[at][0] == "assistant":
                depth = self.depths.get(keys[at])
                if depth is None:
                    replaces = parent is not None or any(
                        self.asked[keys[:k]] for k in range(1, len(keys)) if keys[k][0] == "assistant"
                    )
                    labels.append("made_up_answer" if replaces else "other_conversation")
                else:
                    labels.append("compacted" if at < depth else "edited")
        if "compacted" in labels:
            return "compacted"
        return labels[0] if labels else "other_conversation" if parent is None else "sibling"

    def answer(self, messages: Messages, message: dict[str, Any], turn_id: str, rules: Any) -> None:
        self.answered.setdefault(key([*messages, message]), []).append((turn_id, rules))
        self.depths[key([message])[0]] = len(messages)
