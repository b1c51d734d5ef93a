"""Harmony, how gpt-oss answers: not tagged text but messages, each with a channel and perhaps a recipient.

    <|channel|>analysis<|message|>…<|end|>
    <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}<|call|>

Source: OpenAI's "harmony response format" guide and the package ``openai-harmony``. One message is made of them all:

* ``analysis`` is reasoning; ``final``, and ``commentary`` to no recipient (a preamble), are content; several
  of a kind stand on lines of their own.
* What has a recipient is a tool call, whatever its channel: of ``f`` for ``functions.f``, else of a tool of the
  recipient's name (``browser.search``). To ``python`` a model sends code, not JSON: that is the argument ``code``.
* A header that is none of these stays in the content as it was written, and the text after it is content.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tickertape.renderers.draft import UNPADDED, Draft, Padding
from tickertape.renderers.json_text import is_object
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.reasoning import ThoughtAt
from tickertape.renderers.shape import CallsShape, Either, Json, Perhaps, Shape, Text
from tickertape.renderers.source import Marks, Reading, Source
from tickertape.renderers.tool_calls.offered import Offered

START, END, MESSAGE, CHANNEL, CONSTRAIN = "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>"
_TAGS = (START, END, MESSAGE, CHANNEL, CONSTRAIN)

#: The built-in tool that is sent code.
_PYTHON = "python"

#: A recipient may stand before the channel or after it, a content type after both.
HEADER = re.compile(
    r"(?:<\|start\|>\s*assistant\b)?\s*(?:to=(?P<first>[^\s<]+))?\s*"
    r"(?:<\|channel\|>\s*(?P<channel>analysis|commentary|final)\b(?:\s*to=(?P<second>[^\s<]+))?)?"
    r"(?:\s*<\|constrain\|>\s*[\w/+.-]*|\s+[\w/+.-]+)?\s*<\|message\|>"
)
#: What a header that cannot be read was going to be.
_BEGINS_A_CALL = re.compile(r"(?:<\|start\|>\s*assistant)?\s*(?:<\|channel\|>\s*\w*\s*)?to=")
#: Text of a header as long as it is one: before the first tag nothing but a recipient, so that prose without any
#: header is not held back.
_FIRST_TEXT = re.compile(r"\s*(?:t(?:o(?:=[^\s<>{}]{0,256}\s*)?)?)?")
_LATER_TEXT = re.compile(r"[^<>{}\n]{0,300}")


@dataclass(frozen=True)
class Harmony(ResponseFormat):
    """The format in which gpt-oss writes an answer."""

    padding: Padding = UNPADDED
    built_in: tuple[str, ...] = ()
    """Names of tools, or of namespaces of tools, that the model has beside those that are offered."""
    reads_calls: bool = True

    @property
    def tags(self) -> tuple[str, ...]:
        return _TAGS

    @property
    def speakable(self) -> tuple[str, ...]:
        return ()  # all of them are turn markers

    @property
    def thinks(self) -> bool:
        return True

    def without_calls(self) -> "Harmony":
        return replace(self, reads_calls=False)

    def has_built_in(self, name: str) -> bool:
        """Returns True if a tool of that name is the model's own."""
        return name.partition(".")[0] in self.built_in

    def thought_shape(self, at: ThoughtAt) -> Shape:  # noqa: ARG002  (harmony's prompts open none)
        return (Perhaps(_message_shape("analysis")),)

    def content_shape(self, content: Shape) -> Shape:
        return (f"{CHANNEL}final{MESSAGE}", *content)

    @property
    def calls_lead(self) -> Shape:
        return ()

    def calls_shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape:
        """A call's end, ``<|call|>``, is a stop token: no second one can follow."""
        return CallsShape((f" to=functions.{name}{CHANNEL}commentary json{MESSAGE}", Json(parameters)), between=None)

    def shape_with_one_call(self, calls: Sequence[Shape]) -> Shape:
        preamble = Perhaps(_message_shape("commentary"))
        return (Either((self.content_shape((Text(),)), *((preamble, *call) for call in calls))),)

    def read(self, source: Source, draft: Draft, offered: Offered) -> Reading[None]:  # noqa: ARG002
        source.start_record()
        opening = ""  # the prompt had it
        while True:
            draft.begin_part()
            header, match = yield from _read_header(source, opening)
            recipient = match and (match["first"] or match["second"])
            if match is None or (recipient and not self.reads_calls):
                tag = yield from self._read_verbatim(header, source, draft)
            elif recipient:
                tag = yield from self._read_call(recipient, source, draft)
            elif match["channel"] == "analysis":
                tag = yield from _think(source, draft)
            else:
                tag = yield from source.copy_until(_borders(source), draft.say)
            if tag == END:
                source.take_tag(END)
            draft.begin_part()
            tag = yield from source.copy_until(source.marks(START, CHANNEL), draft.say)
            if tag is None:
                return
            source.start_record()
            opening = source.take_tag(tag)

    def _read_call(self, recipient: str, source: Source, draft: Draft) -> Reading[str | None]:
        is_function = recipient.startswith("functions.")
        is_code = recipient == _PYTHON
        draft.open_call(recipient.removeprefix("functions."))
        written: list[str] = []

        def argue(text: str) -> None:
            written.append(text)
            draft.argue(json.dumps(text, ensure_ascii=False)[1:-1] if is_code else text)

        if is_code:
            draft.argue('{"code": "')
        tag = yield from source.copy_until(_borders(source), argue)
        closed = tag == END or (tag is None and source.stopped)
        if is_code and closed:
            draft.argue('"}')
        status = CallStatus.OK if is_code or is_object("".join(written)) else CallStatus.INVALID_JSON
        built_in = not is_function and self.has_built_in(recipient)
        raw = source.recorded() + (END if tag == END else "")
        draft.close_call(status if closed else CallStatus.UNCLOSED, raw, built_in=built_in)
        return tag

    def _read_verbatim(self, header: str, source: Source, draft: Draft) -> Reading[str | None]:
        """A message with no header, or with one that cannot be read, stays as it is."""
        draft.say_verbatim(header)
        tag = yield from source.copy_until(_borders(source), draft.say_verbatim)
        if self.reads_calls and _BEGINS_A_CALL.match(raw := source.recorded()):
            closed = tag == END or (tag is None and source.stopped)
            draft.note_unreadable(CallStatus.MALFORMED if closed else CallStatus.UNCLOSED, raw)
        return tag


def _message_shape(channel: str) -> Shape:
    """A message that is followed by another."""
    return (f"{CHANNEL}{channel}{MESSAGE}", Text(END, without=(START, CHANNEL, MESSAGE)), f"{START}assistant")


def _borders(source: Source) -> Marks:
    """Returns what ends a message: its end, or the next message where that was left out."""
    return source.marks(END, START, CHANNEL)


def _read_header(source: Source, header: str) -> Reading[tuple[str, re.Match[str] | None]]:
    """Returns what was consumed of a header, and its parts if it is one."""
    viable = _LATER_TEXT if header else _FIRST_TEXT
    while not header.endswith(MESSAGE):
        found = yield from source.before(source.marks(*_TAGS), viable)
        if found is None:
            return header, None
        text, tag = found
        header += text
        if tag in (START, END):
            return header, None
        header += source.take_tag(tag)
        viable = _LATER_TEXT
    return header, HEADER.fullmatch(header)


def _think(source: Source, draft: Draft) -> Reading[str | None]:
    draft.open_thought()
    tag = yield from source.copy_until(_borders(source), draft.think)
    if tag is not None:
        draft.close_thought()
    return tag


def body_of(call: ToolCall) -> str:
    """Returns what a model writes to call a built-in tool: code for ``python``, else the arguments."""
    value = call.arguments_value
    is_code = call.name == _PYTHON and isinstance(value, dict) and isinstance(value.get("code"), str)
    return value["code"] if is_code else call.arguments_json
