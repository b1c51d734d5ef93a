"""Conversations that a subject's template can express, drawn fast.

Drawing every character through hypothesis takes longer than rendering them. So hypothesis draws the shape (which steps,
one after the other) and a number for each part of a step, from which an ordinary generator makes the part. It shrinks
by leaving steps out and by lowering numbers: 0 stands for the plainest part, and a part depends on its own number, and
calls on the tools on offer, but on nothing else.
"""

import json
import string
import sys
import unicodedata
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.renderers.subjects import Conversation, Limits, OpenAIMessage, Subject

_EDGES = ("", "", " ", "\n", "\n\n", " \n", "\n ", "\t", "\r\n", "\u00a0", "\u2028", "\ufeff", "  \n\n  ", "    ")
_WORDS = (
    *("the weather in Köln", "naïve", "漢字かな交じり文", "한국어", "العربية", "👩‍👩‍👧‍👦", "🦙𓀀", "𝔘𝔫𝔦"),
    "e\u0301",  # not in normal form C
    "\u0338",  # composes with <, = and > in normal form C
    *("def f(x):\n    return {'a': 1}\n", '{"name": "f", "arguments": {}}', "```json\n[1, 2]\n```", '"quoted" \\ \\n'),
    *("user\n", "assistant", "/no_think", "system:", "None", "null", "True", "true", "{{ x }}", "{% if %}", "&lt;"),
    *("1234567890", "it's", "0.5", "'", "<b>bold</b>", "<|", "|>", "</", "<", ">", "<br/>"),
    *(
        "<function=f>",
        "</function>",
        "<parameter=x>",
        "</parameter>",
        "<arg_key>",
        "</arg_value>",
        "<tool>",
        "</tools>",
    ),
    *("[INST", "/INST]", "<invoke name=", "</invoke>", "analysis", "commentary to=functions.f", "<｜", "｜>"),
    *("functions.f:0", "# Tools", "---", "…", "Thought:", "json"),
)
# SmolLM2's vocabulary lacks bytes that unassigned characters and a few control characters need.
_CHARACTERS = [
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(char) not in ("Cs", "Co", "Cn") and char not in "\x04\x06\x13\x14\x16\x1d"
]
_ASCII = [char for char in _CHARACTERS if char < "\x80"]
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_NUMBERS = (0, 1, -1, 2**53, -(2**60), 10**20)
_FLOATS = (0.0, 0.5, -1.25, 3.0, 1e-7, 1e22, 0.1 + 0.2)

_numbers = st.integers(0, 2**32 - 1)
_parts = st.tuples(_numbers, _numbers, _numbers)
_KINDS = ("user", "assistant", "round", "system", "calls", "result")


def conversations_for(subject: Subject) -> st.SearchStrategy[Conversation]:
    """Conversations within the subject's limits, the named deviations left out."""
    limits = subject.limits
    kinds = [kind for kind in _KINDS if _expresses(limits, kind)]
    steps = st.lists(st.tuples(st.sampled_from(kinds), _parts), min_size=1, max_size=8)
    refused = [deviation.applies for deviation in subject.deviations]

    @st.composite  # not st.builds: a failure should show the conversation, not its numbers
    def drawn(draw: st.DrawFn) -> Conversation:
        return _Maker(subject).conversation(draw(_numbers), draw(steps))

    def is_wanted(conversation: Conversation) -> bool:
        expressed = limits.expresses is None or limits.expresses(conversation)
        return expressed and not any(applies(conversation) for applies in refused)

    return drawn().filter(is_wanted)


def _expresses(limits: Limits, kind: str) -> bool:
    if kind == "system":
        return limits.system != "nowhere"
    if kind == "round":
        return limits.calls
    return kind not in ("calls", "result") or (limits.calls and limits.order == "any")


class _Maker:
    """Makes one conversation: what its steps share are the tools on offer and the number of calls so far."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._limits = subject.limits
        self._tools: list[dict[str, Any]] = []
        self._messages: list[OpenAIMessage] = []
        self._calls = 0

    def conversation(self, tools: int, plan: Sequence[tuple[str, tuple[int, int, int]]]) -> Conversation:
        if self._limits.tools:
            rng = Random(tools)
            self._tools = [self._tool(rng) for _ in range(rng.choice((0, 1, 1, 2, 3)) if tools else 0)]
        for kind, parts in plan:
            self._add(kind, *parts)
        is_open = self._last in ("user", "tool") or self._limits.order != "alternating"
        has_user = any(message["role"] == "user" for message in self._messages)
        if not is_open or not self._messages or (self._limits.needs_user and not has_user):
            self._messages.append({"role": "user", "content": "Hello."})
        return Conversation(self._messages, self._tools or None)

    @property
    def _last(self) -> str | None:
        return self._messages[-1]["role"] if self._messages else None

    def _add(self, kind: str, said: int, thought: int, called: int) -> None:
        if kind == "system":
            anywhere = self._limits.system == "anywhere" and self._limits.order != "alternating"
            if anywhere or not self._messages:
                self._messages.append({"role": "system", "content": self._text(Random(said), said)})
            return
        if self._limits.order == "alternating" and not self._makes_room(kind):
            return
        if kind == "user":
            self._messages.append({"role": "user", "content": self._text(Random(said), said)})
        elif kind == "result":
            self._messages.append(self._result(self._limits.call_id("f", 0), "f", said))
        else:
            self._messages.append(self._assistant(said, thought, None if kind == "assistant" else called))
            if kind == "round":
                made = self._messages[-1]["tool_calls"]
                self._messages += [self._result(c["id"], c["function"]["name"], called + k) for k, c in enumerate(made)]

    def _makes_room(self, kind: str) -> bool:
        """Adds what must stand before a step of ``kind`` where roles take turns; false where the step has no place."""
        if kind == "user":
            if self._last == "tool":
                self._messages.append({"role": "assistant", "content": "Done."})
            return self._last != "user"
        if self._last not in ("user", "tool"):
            self._messages.append({"role": "user", "content": "Hello."})
        return True

    def _assistant(self, said: int, thought: int, called: int | None) -> OpenAIMessage:
        message: OpenAIMessage = {"role": "assistant", "content": self._text(Random(said), said)}
        if self._limits.reasoning and thought % 2:
            message["reasoning_content"] = self._text(Random(thought), thought)
        if called is not None:
            rng = Random(called)
            count = rng.choice((1, 1, 1, 2, 3)) if self._limits.parallel and called else 1
            message["tool_calls"] = [self._call(rng) for _ in range(count)]
            if not self._limits.text_beside_calls or said % 3 == 0:
                message["content"] = ""
        return message

    def _result(self, call_id: str, name: str, number: int) -> OpenAIMessage:
        message = {"role": "tool", "tool_call_id": call_id, "content": self._text(Random(number), number)}
        return message | {"name": name} if self._limits.result_names else message

    def _call(self, rng: Random) -> dict[str, Any]:
        if self._tools and rng.random() < 0.85:
            function = rng.choice(self._tools)["function"]
            name, arguments = function["name"], self._arguments(rng, function.get("parameters", {}))
        else:
            name = _identifier(rng)
            arguments = {self._key(rng): self._json(rng) for _ in range(rng.randrange(4))}
        given = arguments if self._limits.arguments == "dict" else json.dumps(arguments, ensure_ascii=False)
        self._calls += 1
        call_id = self._limits.call_id(name, self._calls - 1)
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": given}}

    def _arguments(self, rng: Random, parameters: dict[str, Any]) -> dict[str, Any]:
        """As the schema has them, mostly."""
        properties, required = parameters.get("properties", {}), parameters.get("required", ())
        chosen = {key: schema for key, schema in properties.items() if key in required or rng.random() < 0.6}
        return {
            key: self._value(rng, schema) if rng.random() < 0.9 else self._json(rng) for key, schema in chosen.items()
        }

    def _tool(self, rng: Random) -> dict[str, Any]:
        function: dict[str, Any] = {"name": _identifier(rng)}
        bare = "bare" in self._limits.schemas and rng.random() < 0.1
        if not bare or rng.random() < 0.5:
            function["description"] = self._text(rng)
        if not bare:
            function["parameters"] = self._object(rng, depth=0)
        return {"type": "function", "function": function}

    def _object(self, rng: Random, depth: int) -> dict[str, Any]:
        properties = {_identifier(rng): self._schema(rng, depth) for _ in range(rng.randrange(4))}
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if rng.random() < 0.7:
            schema["required"] = [key for key in properties if rng.random() < 0.6]
        return schema

    def _schema(self, rng: Random, depth: int) -> dict[str, Any]:
        allowed = self._limits.schemas
        kind = rng.choice(_TYPES)
        roll = rng.random()
        schema: dict[str, Any] = {"type": kind}
        if roll < 0.1 and "union" in allowed:
            schema = {"type": rng.sample(_TYPES, 2)}
        elif roll < 0.2 and "any_of" in allowed:
            schema = {"anyOf": [{"type": one} for one in rng.sample(_TYPES, 2)]}
        elif roll < 0.3 and "enum" in allowed:
            schema = {"type": "string", "enum": [self._text(rng) for _ in range(rng.randint(1, 3))]}
        elif kind == "array":
            schema["items"] = self._schema(rng, depth + 1) if self._nests(depth) else {"type": "string"}
        elif kind == "object" and self._nests(depth):
            schema = self._object(rng, depth + 1)
        if rng.random() < 0.6:
            schema["description"] = self._text(rng)
        if rng.random() < 0.2 and "default" in allowed:
            schema["default"] = self._value(rng, schema)
        return schema

    def _nests(self, depth: int) -> bool:
        return depth < 2 and "nested" in self._limits.schemas

    def _value(self, rng: Random, schema: dict[str, Any]) -> Any:
        if "anyOf" in schema:
            return self._value(rng, rng.choice(schema["anyOf"]))
        if "enum" in schema:
            return rng.choice(schema["enum"])
        kind = schema.get("type", "string")
        match rng.choice(kind) if isinstance(kind, list) else kind:
            case "string":
                return self._text(rng)
            case "integer":
                return rng.choice(_NUMBERS)
            case "number":
                return rng.choice(_NUMBERS + _FLOATS)
            case "boolean":
                return rng.random() < 0.5
            case "array":
                return [self._value(rng, schema.get("items", {})) for _ in range(rng.randrange(3))]
            case "object":
                return self._arguments(rng, schema)
        return None

    def _json(self, rng: Random, depth: int = 0) -> Any:
        kind = rng.choice(_TYPES if depth < 2 else _TYPES[:4])
        if kind == "array":
            return [self._json(rng, depth + 1) for _ in range(rng.randrange(3))]
        if kind == "object":
            return {self._key(rng): self._json(rng, depth + 1) for _ in range(rng.randrange(3))}
        return self._value(rng, {"type": kind})

    def _key(self, rng: Random) -> str:
        return _identifier(rng) if rng.random() < 0.8 else self._text(rng)

    def _text(self, rng: Random, number: int = 1) -> str:
        """Any text that spells no control token of the subject; ``Hi`` for number 0."""
        return words(self._subject, rng) if number else "Hi"


def words(subject: Subject, rng: Random) -> str:
    """Any text that spells no control token of the subject."""
    text = _any_text(rng)
    while not subject.is_harmless(text):
        text = _any_text(rng)
    return text


def _any_text(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.08:
        return rng.choice(_EDGES)
    if roll < 0.25:
        return "".join(rng.choices(_CHARACTERS, k=rng.randint(1, 12)))
    if roll < 0.4:
        return "".join(rng.choices(_ASCII, k=rng.randint(1, 20)))
    words = rng.choices(_WORDS, k=rng.randint(1, 4))
    return rng.choice(_EDGES) + rng.choice(("", " ", "\n", " ")).join(words) + rng.choice(_EDGES)


def _identifier(rng: Random) -> str:
    return "".join(rng.choices(string.ascii_letters + "_", k=rng.randint(1, 12)))
