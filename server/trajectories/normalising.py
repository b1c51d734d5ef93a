"""The parts of a message that count when histories are compared.

Agents send their complete history with every request, and rarely as they got it. A *policy* brings each message to the
form in which it is compared, by small pure steps; what a policy drops makes no difference, and a message of which
nothing remains does not count. Policies only decide which turn a request continues: what the model reads is never
normalised.

| policy | makes no difference |
|---|---|
| ``strict`` | null or empty content and reasoning |
| ``default`` | also reasoning, call ids, how arguments are written, names of results, what Claude Code adds; around |
|             | the model's own words a name, white space, a thought before them, words for none |
| ``loose`` | also system messages after the first message, white space around anybody's content, anybody's names |
"""

import importlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from tickertape.renderers.json_text import is_deeper
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.tool_calls.python_text import json_of_python

#: ``policy(message, index)``: the message as it is compared, or ``None`` where it does not count. ``index`` is its
#: place in the request. It must depend on nothing else, and an assistant's message must never count for nothing.
MatchPolicy: TypeAlias = Callable[[Message, int], Message | None]

#: A line of Claude Code's system prompt whose ``cch=`` changes with every request.
_BILLING_HEADER = re.compile(r"^x-anthropic-billing-header:[^\n]*\n?", re.MULTILINE)
#: What Claude Code puts into messages, and takes out of them again, as it goes on.
_REMINDER, _REMINDER_END = "<system-reminder>", "</system-reminder>"
_THOUGHT, _THOUGHT_END = "<think>", "</think>"
#: What Claude Code sends where an answer had no text, since Anthropic's protocol takes no empty ones.
_NO_TEXT = "(no content)"


def strict(message: Message, _index: int) -> Message | None:
    """Every difference counts that a chat template could print."""
    return message


def default(message: Message, _index: int) -> Message | None:
    """Levels what clients and their libraries are known to change; what they mean to change makes a difference."""
    message = arguments_by_value(without_call_ids(without_reasoning(message)))
    if message.role == "assistant":
        return without_labels(message)
    kept = without_system_reminders(message)
    return None if kept is None else without_billing_header(kept)


def loose(message: Message, index: int) -> Message | None:
    """For harnesses that rearrange their history: as little as possible counts."""
    if index and message.role in ("system", "developer"):
        return None
    kept = default(message, index)
    return None if kept is None else without_names(trimmed(kept))


POLICIES: dict[str, MatchPolicy] = {"strict": strict, "default": default, "loose": loose}


def policy_named(name: str) -> MatchPolicy:
    """A policy by its name, or one of your own by its dotted path (``package.module.function``).

    Raises:
        ValueError: there is none.
    """
    if name in POLICIES:
        return POLICIES[name]
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        raise ValueError(f"matching {name!r}: it must be {', '.join(POLICIES)}, or package.module.function")
    try:
        policy: MatchPolicy = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"matching {name!r} cannot be imported: {error}") from error
    return policy


# The steps.


def without_reasoning(message: Message) -> Message:
    """Reasoning makes no difference: the OpenAI SDK drops it."""
    if message.reasoning is None:
        return message
    return Message(message.role, message.content, None, message.tool_calls, message.tool_call_id, message.name)


def without_call_ids(message: Message) -> Message:
    """Calls and results by their order alone: ids are lost, renamed and made anew, and a result's name repeats what its
    id says."""
    if message.role == "tool":
        return Message("tool", message.content)
    if not message.tool_calls:
        return message
    return _with_calls(message, tuple(ToolCall(call.name, call.arguments) for call in message.tool_calls))


def arguments_by_value(message: Message) -> Message:
    """Arguments in one notation: order of keys, white space, ``1.0`` for ``1`` and Python's ``False`` do not count."""
    if not message.tool_calls:
        return message
    calls = tuple(ToolCall(call.name, canonical_arguments(call.arguments), call.id) for call in message.tool_calls)
    return _with_calls(message, calls)


def _with_calls(message: Message, calls: tuple[ToolCall, ...]) -> Message:
    # Not dataclasses.replace, which takes ten times as long; every message of every request comes through here.
    return Message(message.role, message.content, message.reasoning, calls, message.tool_call_id, message.name)


def without_billing_header(message: Message) -> Message | None:
    """A system prompt without ``x-anthropic-billing-header: … cch=…``; nothing, if it held nothing else."""
    if message.role not in ("system", "developer") or "x-anthropic-billing-header:" not in message.text:
        return message
    text = _BILLING_HEADER.sub("", message.text)
    return replace(message, content=text) if text.strip() else None


def without_system_reminders(message: Message) -> Message | None:
    """Returns what a user or a tool says without ``<system-reminder>`` blocks; nothing, if there was nothing else."""
    if message.role not in ("user", "tool") or _REMINDER_END not in message.text:
        return message
    pieces = list(filter(None, _around_reminders(message.text)))
    return replace(message, content="\n".join(pieces)) if pieces or message.role == "tool" else None


def _around_reminders(text: str) -> Iterator[str]:
    at = 0
    while (start := text.find(_REMINDER, at)) >= 0 and (end := text.find(_REMINDER_END, start)) >= 0:
        before = text[at:start].rstrip("\n")
        yield before.lstrip("\n") if at else before
        at = end + len(_REMINDER_END)
    yield text[at:].lstrip("\n") if at else text


def without_labels(message: Message) -> Message:
    """Returns what the model said, without what clients put around it: a name, white space, its thought in front of the
    text, and words for none."""
    text = message.text.strip()
    if text.startswith(_THOUGHT):
        text = text.partition(_THOUGHT_END)[2].lstrip()
    if text == _NO_TEXT:
        text = ""
    if message.name is None and text == message.text:
        return message
    return Message("assistant", text, message.reasoning, message.tool_calls)


def trimmed(message: Message) -> Message:
    """Content without white space around it."""
    text = message.text.strip()
    return message if text == message.content else replace(message, content=text)


def without_names(message: Message) -> Message:
    """Leaves out which of several users or tools speaks."""
    return message if message.name is None else replace(message, name=None)


def canonical_arguments(arguments: Any) -> str:
    """Arguments by value. Text that is neither JSON nor what Python prints of a JSON value (some clients send
    ``{'x': False}``) counts as it stands, and so does what is nested more than ``MOST_DEPTH`` levels deep. Whatever was
    written, nothing is raised, and every process finds the same."""
    if not isinstance(arguments, str):
        written = _written(arguments)
        return repr(arguments) if written is None else written
    return _read_again(arguments) if len(arguments) <= _SHORT else _read(arguments)


def _read(arguments: str) -> str:
    if not arguments.strip():
        return "{}"
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        try:
            value = json.loads(json_of_python(arguments) or "")
        except (ValueError, RecursionError):
            return arguments
    written = _written(value)
    return arguments if written is None else written


#: History comes again with every request. Only short texts are remembered: this is a few megabytes.
_SHORT = 1024
_read_again = lru_cache(maxsize=8192)(_read)

#: How deep Python can read and write depends on how deep the caller stands on the stack; up to here it always can.
MOST_DEPTH = 128


def _written(value: Any) -> str | None:
    """A value as JSON; ``None`` if that is impossible."""
    if is_deeper(value, MOST_DEPTH):
        return None
    try:
        return _SORTED.encode(_whole_numbers(value))
    except (TypeError, ValueError):  # no JSON value: only a caller of this library has one
        return None


_SORTED = json.JSONEncoder(sort_keys=True)


def _whole_numbers(value: Any) -> Any:
    """``1.0`` as ``1``: JavaScript does not tell them apart."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(item) for item in value]
    return value
