"""How a model that is known by its template alone writes thoughts and tool calls: the template is shown one of each.

What the template prints for an assistant's turn is read with every syntax that the families know; the first that gives
back what was put in is the model's. A syntax that is merely mentioned in a template is not taken for its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tickertape.renderers.errors import RenderError
from tickertape.renderers.families import FAMILIES
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.parsing import ResponseFormat, StreamParser
from tickertape.renderers.prompt import ParsedResponse
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.renderers.tool_calls.bare_json import BareJson
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.pythonic import Pythonic

Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None, bool], str]

#: What models write that have no page among the families yet.
_OTHERS = {
    "lfm2": ResponseFormat(
        reasoning=TaggedReasoning(), tool_calls=Pythonic("<|tool_call_start|>", "<|tool_call_end|>")
    ),
    "llama3.2-pythonic": ResponseFormat(tool_calls=Pythonic("<|python_tag|>")),
    "llama4": ResponseFormat(tool_calls=BareJson("<|python_end|>")),
}
_ASKED = Message("user", "How is it over there?")
_THOUGHT = "They ask about today."
_CALL = ToolCall("look_up_weather", {"city": "Köln", "days": 2}, "call00000")
_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


class Probed(NamedTuple):
    """What probing found."""

    format: ResponseFormat
    reasoning_of: str | None
    """The family that writes thoughts like this model."""
    calls_of: str | None
    """The family that writes tool calls like it."""


def probe(tokenizer: Tokenizer, template: str, render: Render, generation_prompt: str) -> Probed:
    """The response format of a template; without what it does not print.

    Args:
        tokenizer: the model's.
        template: its source.
        render: ``(messages, tools, generation_prompt) -> text``.
        generation_prompt: what it puts before an assistant's first token.
    """
    thinking = Message("assistant", "Fair.", reasoning=_THOUGHT)
    thoughts = list(_outputs(render, thinking, None, generation_prompt))
    calling = Message("assistant", "", tool_calls=(_CALL,))
    calls = list(_outputs(render, calling, [_TOOL], generation_prompt))

    def thinks(parsed: ParsedResponse) -> bool:
        return (parsed.reasoning or "").strip() == _THOUGHT

    def makes_the_call(parsed: ParsedResponse) -> bool:
        made = [(call.name, call.arguments_value) for call in parsed.tool_calls]
        return made == [(_CALL.name, _CALL.arguments_value)]

    reasoning_of = _first_that_reads(tokenizer, thoughts, thinks)
    calls_of = _first_that_reads(tokenizer, calls, makes_the_call)
    return Probed(_joined(reasoning_of, calls_of, template), reasoning_of, calls_of)


def _outputs(
    render: Render, said: Message, tools: Sequence[Mapping[str, Any]] | None, generation_prompt: str
) -> Iterator[str]:
    """What the template prints for an answer: behind the generation prompt, where that is found, and all of it."""
    for tools_or_none in (tools, None) if tools else (None,):
        try:
            text = render([_ASKED, said], tools_or_none, False)
        except RenderError:
            continue
        answer = text.rpartition(_ASKED.text)[2]
        header = generation_prompt.partition("<think>")[0] or generation_prompt
        if header and header in answer:
            yield answer.partition(header)[2]
        yield answer


def _first_that_reads(
    tokenizer: Tokenizer, outputs: Sequence[str], is_right: Callable[[ParsedResponse], bool]
) -> str | None:
    """The first family whose syntax reads one of the outputs rightly."""
    encoded = [tokenizer.encode_like_model(text) for text in outputs]
    for name in (*FAMILIES, *_OTHERS):
        if any(is_right(_read(tokenizer, _format_of(name), ids)) for ids in encoded):
            return name
    return None


def _format_of(name: str) -> ResponseFormat:
    return _OTHERS[name] if name in _OTHERS else FAMILIES[name].response


def _read(tokenizer: Tokenizer, format_: ResponseFormat, ids: Sequence[int]) -> ParsedResponse:
    parser = StreamParser(tokenizer, replace(format_, stop_ids=(), starts_in_reasoning=False), Offered([_TOOL]))
    parser.feed(ids)
    parser.finish()
    return parser.response()


def _joined(reasoning_of: str | None, calls_of: str | None, template: str) -> ResponseFormat:
    """The reasoning of one family and the tool calls of another, or both of one."""
    calls = _format_of(calls_of) if calls_of else None
    thoughts = _format_of(reasoning_of) if reasoning_of else None
    if calls is not None and (calls is thoughts or type(calls) is not ResponseFormat):
        return calls
    if thoughts is not None and type(thoughts) is not ResponseFormat:
        return thoughts
    reasoning = thoughts.reasoning if thoughts else _spelled_in(template)
    padding = replace((calls or thoughts or ResponseFormat()).padding)
    if thoughts is not None:
        padding = replace(padding, thought=thoughts.padding.thought, after_thought=thoughts.padding.after_thought)
    return ResponseFormat(reasoning=reasoning, tool_calls=calls.tool_calls if calls else None, padding=padding)


def _spelled_in(template: str) -> TaggedReasoning | None:
    """Many templates print no thoughts but cut them out of what they are given: those spell the closing tag."""
    usual = TaggedReasoning()
    return usual if usual.close in template else None
