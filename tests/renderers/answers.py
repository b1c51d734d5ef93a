"""What models answer, of any family: messages that it can sample, and the tokens that it samples for them.

The tokens are those that ``history="exact"`` would train: so they are right for every family without anything written
by hand. Parts of a message are drawn by an ordinary generator from a seed, because there are many.
"""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.renderers.conversations import words
from tests.renderers.strategies import tool
from tests.renderers.subjects import Subject
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.renderer import Renderer

_SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "object", "properties": {"inner": {"type": "string"}}},
)
#: What answers call: ``look_up(text)``, ``set_all(a_0, …)`` with a parameter of each type, ``stop()``.
TOOLS = [
    tool("look_up", "Looks a text up.", {"text": {"type": "string"}}),
    tool("set_all", "Sets values.", {f"a_{k}": schema for k, schema in enumerate(_SCHEMAS)}),
    tool("stop", "Stops.", {}),
]
_STRINGS = ("true", "5", "null", "[1, 2]", '{"a": 1}', "two\nlines", "", "it's", "0.50")


@dataclass(frozen=True)
class Answer:
    """An assistant message and what the model samples for it, its stop token included."""

    message: Message
    token_ids: list[int]


def offered(subject: Subject) -> list[dict[str, Any]] | None:
    """What the prompt offers: :data:`TOOLS` if the template shows tools."""
    return TOOLS if subject.limits.tools else None


_ASKED = (Message("user", "q"),)


def may_think(subject: Subject, before: Sequence[Message]) -> bool:
    """Whether the model thinks and is asked to: a prompt that closes a thought before any asks it not to."""
    response = subject.exact.response_format
    prompt = subject.exact.build_generation_prompt(before).token_ids
    opened = subject.tokenizer.decode(prompt[-8:]).rstrip()
    closes = response.reasoning is not None and opened.endswith(response.reasoning.close)
    return response.thinks and not closes


def draw_message(
    subject: Subject, rng: Random, before: Sequence[Message] = _ASKED, *, stripped: bool = True
) -> Message:
    """An assistant message within the model's abilities, as an answer to ``before``; ``stripped`` texts have no white
    space at either end, which formats may take for their own."""
    limits = subject.limits
    n_calls = rng.choice((0, 0, 1, 1, 2, 3)) if limits.calls else 0
    calls = [_draw_call(subject, rng, number) for number in range(n_calls if limits.parallel else min(n_calls, 1))]
    speaks = not calls or (limits.text_beside_calls and rng.random() < 0.5)
    content = _draw_text(subject, rng, stripped=stripped) if speaks else ""
    reasoning = None
    must_think = subject.exact.response_format.starts_in_reasoning
    if may_think(subject, before) and (must_think or rng.random() < 0.7):
        reasoning = _draw_text(subject, rng, stripped=stripped).strip() or "Hm."
    return Message("assistant", content, reasoning, tuple(calls))


def answer(subject: Subject, message: Message, before: Sequence[Message] = _ASKED) -> Answer:
    """What the model samples to say ``message``."""
    return Answer(message, sampled(subject.exact, message, before, offered(subject)))


def sampled(
    renderer: Renderer, message: Message, before: Sequence[Message], tools: Sequence[dict[str, Any]] | None
) -> list[int]:
    """The tokens that training on ``message`` would teach, which begin where the prompt ends."""
    prompt = renderer.build_generation_prompt(before, tools).token_ids
    ids, weights = renderer.build_supervised_example([*before, message], tools)
    length = len(weights) - weights[::-1].index(1.0)
    assert ids[: len(prompt)] == prompt, "the message stands where its prompt ends"
    assert weights[len(prompt) : length] == [1.0] * (length - len(prompt)), "all that is sampled is trained"
    assert not any(weights[: len(prompt)]), "what the prompt holds is not trained"
    return ids[len(prompt) : length]


def _draw_call(subject: Subject, rng: Random, number: int) -> ToolCall:
    function = rng.choice(TOOLS)["function"]
    name, parameters = function["name"], function["parameters"]["properties"]
    drawn = {key: _draw_value(subject, rng, schema) for key, schema in parameters.items()}
    return ToolCall(name, json.dumps(drawn, ensure_ascii=False), subject.limits.call_id(name, number))


def _draw_value(subject: Subject, rng: Random, schema: dict[str, Any]) -> Any:
    match schema["type"]:
        case "string":
            return rng.choice(_STRINGS) if rng.random() < 0.5 else _draw_text(subject, rng)
        case "integer":
            return rng.choice((0, -7, 2**53))
        case "number":
            return rng.choice((0.5, -1.25, 3, 1e22))
        case "boolean":
            return rng.random() < 0.5
        case "array":
            return [_draw_text(subject, rng) for _ in range(rng.randrange(3))]
    return {"inner": _draw_text(subject, rng)} if rng.random() < 0.7 else {}


def _draw_text(subject: Subject, rng: Random, *, stripped: bool = True) -> str:
    """Words as they come back from the tokenizer, which may normalise them, without tags that would be read as such,
    and not beginning like JSON, which some formats read as a call."""
    tags = subject.exact.response_format.tags
    while True:
        text = words(subject, rng)
        text = subject.tokenizer.decode(subject.tokenizer.encode_text(text))
        text = text.strip() if stripped else text
        composes = any(map(unicodedata.combining, text[:1]))
        if not composes and not text.lstrip().startswith(("{", "[")) and not any(tag in text for tag in tags):
            return text
