"""The probing of how a model known by its template alone writes thoughts and tool calls: it is shown one of each.

What the template prints for an assistant's turn is read with every syntax that the families know; the first that gives
back what was put in is the model's. A syntax that is merely mentioned in a template is not taken for its own.
"""

import re
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
from tickertape.renderers.tool_calls.any_of import AnyOf
from tickertape.renderers.tool_calls.bare_json import BareJson
from tickertape.renderers.tool_calls.elements import Elements
from tickertape.renderers.tool_calls.json_in_tags import JsonInTags
from tickertape.renderers.tool_calls.json_list import JsonList
from tickertape.renderers.tool_calls.nested_elements import NestedElements
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.pythonic import Pythonic
from tickertape.renderers.tool_calls.section import Section

Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None, bool], str]


def _in_section(opening: str, closing: str, calls: NestedElements | Elements) -> Section:
    return Section(opening, closing, replace(calls, enclosing=(opening, closing)), line="\n")


def _hy3(suffix: str) -> Section:
    """Hy3's calls; its tags end in the name of a release."""
    one = Elements(
        name_open=f"<tool_call{suffix}>", name_close=f"<tool_sep{suffix}>", end=f"</tool_call{suffix}>", between="\n",
        key_open=f"<arg_key{suffix}>", key_close=f"</arg_key{suffix}>", value_pad="",
        value_open=f"<arg_value{suffix}>", value_close=f"</arg_value{suffix}>",
    )  # fmt: skip
    return _in_section(f"<tool_calls{suffix}>", f"</tool_calls{suffix}>", one)


#: What models write that have no page among the families yet.
_OTHERS = {
    "lfm2": ResponseFormat(
        reasoning=TaggedReasoning(), tool_calls=Pythonic("<|tool_call_start|>", "<|tool_call_end|>")
    ),
    "llama3.2-pythonic": ResponseFormat(tool_calls=Pythonic("<|python_tag|>")),
    "llama4": ResponseFormat(
        tool_calls=AnyOf(
            ("<|python_start|>", "<|python_end|>"), (BareJson("<|python_end|>"), Pythonic("<|python_end|>"))
        )
    ),
    "olmo3": ResponseFormat(tool_calls=Pythonic("<function_calls>", "</function_calls>", brackets=False)),
    "command-a": ResponseFormat(
        tool_calls=JsonList("<|START_ACTION|>", "<|END_ACTION|>", name_key="tool_name", arguments_key="parameters")
    ),
    "hunyuan-a13b": ResponseFormat(tool_calls=JsonList("<tool_calls>", "</tool_calls>")),
    "nemotron-nano-2": ResponseFormat(tool_calls=JsonList("<TOOLCALL>", "</TOOLCALL>")),
    "granite-3.3": ResponseFormat(tool_calls=JsonList("<|tool_call|>")),
    "xlam-2": ResponseFormat(tool_calls=JsonList("")),
    "intern-s1": ResponseFormat(
        tool_calls=JsonInTags("<|action_start|><|plugin|>", "<|action_end|>", arguments_key="parameters")
    ),
    "minimax-m3": ResponseFormat(
        tool_calls=_in_section("]<]minimax[>[<tool_call>", "]<]minimax[>[</tool_call>", NestedElements()),
        silent=("</mm:think>",),  # in place of a thought
    ),
    **{f"hy3{suffix}": ResponseFormat(tool_calls=_hy3(suffix)) for suffix in ("", ":opensource")},
}
#: What a template says of calls that it does not print, and the model that writes them so.
_TOLD = {"<|tool_call|> followed by a JSON list": "granite-3.3"}
_ASKED = Message("user", "How is it over there?")
_THOUGHT = "They ask about today."
_ANSWER = "Fair."
#: A tag right before or after some words.
_LAST_TAG = re.compile(r"(<[^<>\s/][^<>\s]*>|\[[A-Z_]+\])\s*\Z")
_FIRST_TAG = re.compile(r"\s*(<[^<>\s]+>|\[/[A-Z_]+\])")
_EMPTY = re.compile(r"(<[^<>\s/]*think[^<>\s]*>)\s*(<[^<>\s]+>)", re.IGNORECASE)
_THINKS = re.compile("think|thought|reason", re.IGNORECASE)
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
    """The findings of probing."""

    format: ResponseFormat
    reasoning_of: str | None
    """The family that writes thoughts like this model."""
    calls_of: str | None
    """The family that writes tool calls like it."""
    thoughts_by: str | None
    """The grounds on which it is known that the model writes thoughts, for people; ``None`` where nothing was found."""
    calls_by: str | None
    """The same of calls."""
    shows_calls: bool
    """True if the template prints a call's name, however it does."""


def probe(tokenizer: Tokenizer, template: str, render: Render, generation_prompt: str) -> Probed:
    """The response format of a template; without what it does not print.

    Args:
        tokenizer: the model's.
        template: its source.
        render: ``(messages, tools, generation_prompt) -> text``.
        generation_prompt: what it puts before an assistant's first token.
    """
    thinking = Message("assistant", _ANSWER, reasoning=_THOUGHT)
    thoughts = list(_outputs(render, thinking, None, generation_prompt))
    calling = Message("assistant", "", tool_calls=(_CALL,))
    calls = list(_outputs(render, calling, [_TOOL], generation_prompt))

    def thinks(parsed: ParsedResponse) -> bool:
        return (parsed.reasoning or "").strip() == _THOUGHT

    def makes_the_call(parsed: ParsedResponse) -> bool:
        made = [(call.name, call.arguments_value) for call in parsed.tool_calls]
        return made == [(_CALL.name, _CALL.arguments_value)]

    reasoning_of = _first_that_reads(tokenizer, thoughts, thinks)
    reasoning, thoughts_by = _thoughts(reasoning_of, thoughts, template, generation_prompt)
    calls_of, calls_by = _first_that_reads(tokenizer, calls, makes_the_call), "the template prints a call"
    if calls_of is None:
        calls_of = next((name for told, name in _TOLD.items() if told in template), None)
        calls_by = "the template tells the model to write so"
    format_ = _joined(reasoning_of, calls_of, reasoning)
    if type(format_) is ResponseFormat:
        format_ = replace(format_, silent=(*format_.silent, *_around(_ANSWER, thoughts)))
    shows_calls = any(_CALL.name in output for output in calls)
    return Probed(format_, reasoning_of, calls_of, thoughts_by, calls_by if calls_of else None, shows_calls)


def _thoughts(
    name: str | None, outputs: Sequence[str], template: str, generation_prompt: str
) -> tuple[TaggedReasoning | None, str | None]:
    """Finds how thoughts are written, and how that is known: one is printed between two tags, whatever they are; the
    prompt opens one; or the template cuts them out of what it is given, and so spells the closing tag."""
    if name is not None:
        return _format_of(name).reasoning, "the template prints a thought"
    if around := _around(_THOUGHT, outputs):
        return _tagged(*around), "the template prints a thought"
    for output in outputs:
        if (empty := _EMPTY.search(output)) and _closing(empty[1]) == empty[2]:
            return _tagged(empty[1], empty[2]), "the template prints an empty thought"
    last = _LAST_TAG.search(generation_prompt)
    if last is not None and _THINKS.search(last.group()):
        return _tagged(last[1], _closing(last[1])), "the prompt opens a thought"
    usual = TaggedReasoning()
    return (usual, "the template spells the closing tag") if usual.close in template else (None, None)


def _tagged(opening: str, closing: str) -> TaggedReasoning:
    """Thoughts between two tags. What stands around the usual ones is known; around others nothing is assumed."""
    usual = TaggedReasoning()
    return usual if opening == usual.open else TaggedReasoning(opening, closing, around_close=("", ""))


def _around(words: str, outputs: Sequence[str]) -> tuple[str, ...]:
    """The opening and the closing tag right around the words; none where there is no such pair."""
    for output in outputs:
        before, found, behind = output.partition(words)
        opening, closing = _LAST_TAG.search(before), _FIRST_TAG.match(behind)
        if found and opening and closing and _closing(opening[1]) == closing[1]:
            return opening[1], closing[1]
    return ()


def _closing(tag: str) -> str:
    """The tag that closes what ``tag`` opens, as models name them."""
    for opens, closes in (("START_", "END_"), ("begin_", "end_"), ("_start|", "_end|"), ("begin▁", "end▁")):
        if opens in tag:
            return tag.replace(opens, closes, 1)
    return tag[0] + "/" + tag[1:]


def _outputs(
    render: Render, said: Message, tools: Sequence[Mapping[str, Any]] | None, generation_prompt: str
) -> Iterator[str]:
    """Yields what the template prints for an answer: after the generation prompt, where that is found, and all of
    it."""
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


def _joined(reasoning_of: str | None, calls_of: str | None, reasoning: TaggedReasoning | None) -> ResponseFormat:
    """The reasoning of one family and the tool calls of another, or both of one."""
    calls = _format_of(calls_of) if calls_of else None
    thoughts = _format_of(reasoning_of) if reasoning_of else None
    if calls is not None and (calls is thoughts or type(calls) is not ResponseFormat):
        return calls
    if thoughts is not None and type(thoughts) is not ResponseFormat:
        return thoughts
    padding = replace((calls or thoughts or ResponseFormat()).padding)
    if thoughts is not None:
        padding = replace(padding, thought=thoughts.padding.thought, after_thought=thoughts.padding.after_thought)
    silent = calls.silent if calls else ()
    tool_calls = calls.tool_calls if calls else None
    return ResponseFormat(reasoning=reasoning, tool_calls=tool_calls, padding=padding, silent=silent)
