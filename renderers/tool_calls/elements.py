"""Calls as nested elements, one for each parameter: Qwen3-Coder, Nemotron 3, Seed-OSS, GLM, MiniMax, DeepSeek V3.2.

Values are written without their types, which come from the tool's schema (:class:`Offered`).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tickertape.renderers.draft import Draft
from tickertape.renderers.errors import RenderError
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.shape import CallsShape, Either, Json, Perhaps, Shape, Text
from tickertape.renderers.source import Reading, Sink, Source, drop
from tickertape.renderers.tool_calls.offered import Offered, Value
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim

_MAYBE_NAME = re.compile(r"\s*[^\s<>\"{}]{0,256}\s*")
_WHITE_SPACE = re.compile(r"\s*")


def _object(call: ToolCall) -> Mapping[str, Any]:
    """A call's arguments; this syntax has no way to write anything but an object.

    Raises:
        RenderError: they are none.
    """
    value = call.arguments_value
    if value in ("", None):
        return {}
    if not isinstance(value, Mapping):
        raise RenderError(f"the arguments of {call.name} are no JSON object: {call.arguments_json[:80]!r}")
    return value


def json_or_text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def python_or_json(value: Any) -> str:
    """Lists and objects as JSON, anything else as Python's ``str`` has it (``True``, ``None``)."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


@dataclass(frozen=True)
class Elements(CallSyntax):
    """``<function=f>\\n<parameter=k>\\nv\\n</parameter>\\n</function>``, and its like.

    A call is ``name_open``, its name, ``name_close``; for each parameter ``key_open``, its name, ``key_close``,
    perhaps an attribute and ``value_open``, its value, ``value_close``; then ``end``. Without ``name_close``, the name
    ends where the first parameter or the call does.
    """

    name_open: str = "<function="
    name_close: str = ">"
    key_open: str = "<parameter="
    key_close: str = ">"
    value_open: str = ""
    value_close: str = "</parameter>"
    end: str = "</function>"
    line: str = "\n"
    """After the name and after each parameter."""
    between: str = ""
    """Between ``key_close`` and ``value_open``."""
    value_pad: str = "\n"
    """On both sides of a value."""
    without_parameters: str = ""
    """Stands before ``end`` in a call that has none."""
    padding: str = "\n"
    value_text: Callable[[Any], str] = json_or_text
    enclosing: tuple[str, ...] = ()
    """Tags of the section that calls stand in, which end a call that was never closed."""

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.name_open,)

    @property
    def tags(self) -> tuple[str, ...]:
        of_name, of_key = (self.name_open, self.name_close), (self.key_open, self.key_close)
        marks = (*of_name, *of_key, self.value_open, self.value_close, self.end)
        return tuple(tag for tag in marks if len(tag) > 2)  # '">' is no tag by itself

    # Writing.

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for k, call in enumerate(calls):
            yield output_markup((self.padding if k else "") + self.name_open)
            yield output_value(call.name)
            yield output_markup(self.name_close + self.line)
            arguments = _object(call)
            for key, given in arguments.items():
                yield from self._write_parameter(str(key), given)
            yield output_markup(self.end if arguments else self.without_parameters + self.end)

    def _write_parameter(self, key: str, value: Any) -> Iterator[Piece]:
        yield output_markup(self.key_open)
        yield output_value(key)
        yield output_markup(self.key_close + self.attribute(value) + self.between + self.value_open + self.value_pad)
        yield output_value(self.value_text(value))
        yield output_markup(self.value_pad + self.value_close + self.line)

    def attribute(self, value: Any) -> str:  # noqa: ARG002
        """Returns what stands between ``key_close`` and ``value_open`` to say a value's type; nothing in most
        formats."""
        return ""

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape | None:
        """Each parameter on its own, in the schema's order. Of a text the schema says nothing but that it is one; of
        what is written as JSON, all."""
        properties = parameters.get("properties") or {}
        open_ended = parameters.get("additionalProperties", False) is not False
        if not isinstance(properties, Mapping) or (open_ended and not properties):
            return None
        required = parameters.get("required") or ()
        definitions = {key: parameters[key] for key in ("$defs", "definitions") if key in parameters}
        offered = Offered([{"function": {"name": name, "parameters": parameters}}])
        call: Shape = (self.name_open + name + self.name_close + self.line,)
        for key, schema in properties.items():
            types = offered.types(name, key)
            written = self._parameter_shape(key, schema if isinstance(schema, Mapping) else {}, types, definitions)
            call += written if key in required else (Perhaps(written),)
        lead = "" if properties else self.without_parameters
        return CallsShape((*call, lead + self.end), between=self.padding)

    def _parameter_shape(
        self, key: str, schema: Mapping[str, Any], types: frozenset[str], definitions: Mapping[str, Any]
    ) -> Shape:
        behind = self.value_pad + self.value_close + self.line
        text = Text(self.value_pad + self.value_close, without=self.enclosing)

        def given(attribute_of: Any) -> str:
            attribute = self.attribute(attribute_of)
            return self.key_open + key + self.key_close + attribute + self.between + self.value_open + self.value_pad

        if (listed := _listed(schema)) is not None:
            return (Either(tuple((given(value) + self.value_text(value) + behind,) for value in listed)),)
        if not types or "string" in types:
            return (given(""), text, self.line)
        return (given(0), Json({**definitions, **schema}), behind)

    # Reading.

    def json_of(self, attribute: str, tool: str, key: str, written: str, offered: Offered) -> Value:  # noqa: ARG002
        """A value as it was written."""
        return offered.json_of(tool, key, written)

    def is_text(self, attribute: str, tool: str, key: str, offered: Offered) -> bool:  # noqa: ARG002
        """Returns True if a value can be nothing but text, so that it is certain while it is being written."""
        return offered.is_text(tool, key)

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:
        source.start_record()
        name = yield from self._read_name(source)
        if not name:
            marks = source.marks(self.name_open, self.end, *self.enclosing)
            yield from read_verbatim(
                CallStatus.MALFORMED, source, draft, marks, self.end, opening=opening, already=source.recorded()
            )
            return
        draft.open_call(name)
        status = yield from self._read_parameters(name, source, draft, offered)
        draft.close_call(status, opening + source.recorded())

    def _read_name(self, source: Source) -> Reading[str | None]:
        """Reads the name, if arguments begin after it; else it is prose that mentions the tag."""
        begins = (self.key_open, self.end)
        stops = (self.name_close,) if self.name_close else begins
        head, tag = (yield from source.before(source.marks(*stops, *self.enclosing), _MAYBE_NAME)) or ("", "")
        if self.name_close and tag == self.name_close:
            source.take_tag(tag)
            _, tag = (yield from source.before(source.marks(*begins, *self.enclosing), _WHITE_SPACE)) or ("", "")
        return head.strip() if tag in begins else None

    def _read_parameters(self, name: str, source: Source, draft: Draft, offered: Offered) -> Reading[CallStatus]:
        marks = source.marks(self.key_open, self.end, self.name_open, *self.enclosing)
        stray: list[str] = []
        lead = "{"
        repaired = False
        while True:
            tag = yield from source.copy_until(marks, stray.append)
            if tag == self.key_open:
                source.take_tag(tag)
                status = yield from self._read_parameter(name, lead, source, draft, offered)
                if status is CallStatus.UNCLOSED:
                    return status
                repaired |= status is CallStatus.REPAIRED
                lead = ", "
            elif tag == self.end:
                source.take_tag(tag)
                draft.argue("{}" if lead == "{" else "}")
                if "".join(stray).strip():
                    return CallStatus.MALFORMED
                return CallStatus.REPAIRED if repaired else CallStatus.OK
            else:
                return CallStatus.UNCLOSED

    def _read_parameter(
        self, name: str, lead: str, source: Source, draft: Draft, offered: Offered
    ) -> Reading[CallStatus]:
        """Says of one parameter whether it was closed, and whether it had to be repaired."""
        head = yield from self._read_key(source)
        if head is None:
            return CallStatus.UNCLOSED
        key, attribute, repaired = head
        draft.argue(f"{lead}{json.dumps(key, ensure_ascii=False)}: ")
        value = _Unpadded(self.value_pad)
        if self.is_text(attribute, name, key, offered):
            draft.argue('"')
            closed = yield from self._read_value(source, lambda text: draft.argue(_escaped(value.add(text))))
            if closed:
                draft.argue('"')
        else:
            written: list[str] = []
            closed = yield from self._read_value(source, lambda text: written.append(value.add(text)))
            if closed:
                read = self.json_of(attribute, name, key, "".join(written), offered)
                draft.argue(read.json)
                repaired |= read.repaired
        if not closed:
            return CallStatus.UNCLOSED
        return CallStatus.REPAIRED if repaired else CallStatus.OK

    def _read_key(self, source: Source) -> Reading[tuple[str, str, bool] | None]:
        """A parameter's name, its attribute, and whether they were repaired; ``None`` where they break off."""
        key = yield from self._text_until(self.key_close, source)
        attribute = (yield from self._text_until(self.value_open, source)) if self.value_open else ""
        return None if key is None or attribute is None else (key, attribute, False)

    def _read_value(self, source: Source, sink: Sink) -> Reading[bool]:
        """Passes on a value up to the tag that closes it, which is consumed; ``False`` where it is never closed. A tag
        is a word of the value where what stands after it does not fit the format, and a later one does close it."""
        marks = source.marks(self.value_close, *self.enclosing)
        closes_later = False
        while (tag := (yield from source.copy_until(marks, sink))) is not None:
            fits = yield from self._fits(tag, source)
            closes_later = not fits and (closes_later or (yield from self._closes_later(tag, source)))
            if not closes_later:
                if tag == self.value_close:
                    source.take_tag(tag)
                return tag == self.value_close
            sink(source.take_tag(tag))
        return False

    def _fits(self, tag: str, source: Source) -> Reading[bool]:
        """Returns True if what stands after a tag in a value lets it be the one that ends the value, or the call."""
        behind = (self.name_open, *self.enclosing)
        if tag == self.value_close:
            behind = (self.key_open, self.end, *behind)
        return (yield from source.followed_by(tag, source.marks(*behind)))

    def _closes_later(self, tag: str, source: Source) -> Reading[bool]:
        """Returns True if a tag that closes the value follows, before another call begins. Nothing is consumed."""
        place = source.hold()
        marks = source.marks(self.value_close, self.name_open, *self.enclosing)
        found: str | None = tag
        while found is not None:
            source.take_tag(found)
            found = yield from source.copy_until(marks, drop)
            if found == self.name_open or (found == self.value_close and (yield from self._fits(found, source))):
                break
        source.put_back(place)
        return found == self.value_close

    def _text_until(self, stop: str, source: Source) -> Reading[str | None]:
        parts: list[str] = []
        tag = yield from source.copy_until(source.marks(stop, self.end, *self.enclosing), parts.append)
        if tag != stop:
            return None
        source.take_tag(tag)
        return "".join(parts)


def _listed(schema: Mapping[str, Any]) -> Sequence[Any] | None:
    """All values of a schema that allows a few."""
    if "const" in schema:
        return [schema["const"]]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return list(schema["enum"])
    values: dict[str, Sequence[Any]] = {"boolean": [True, False], "null": [None]}
    return values.get(str(schema.get("type")))


class _Unpadded:
    """Takes the format's white space off both ends of a value that comes in parts."""

    def __init__(self, pad: str) -> None:
        self._pad = pad
        self._lead = pad
        self._held = ""

    def add(self, text: str) -> str:
        """Takes more text; returns what is certain to be the value's own. The pad at its end never becomes so."""
        while self._lead and text:
            self._lead, text = (self._lead[1:], text[1:]) if text[0] == self._lead[0] else ("", text)
        text = self._held + text
        held = next((k for k in range(len(self._pad), 0, -1) if text.endswith(self._pad[:k])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
