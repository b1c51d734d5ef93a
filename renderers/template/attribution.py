"""Which words of a rendered template belong to which message.

A template's output is one string. Rendering the same messages once more, each text replaced by a private-use marker,
shows where the template puts every text; if putting the texts back in place of the markers gives the first rendering,
the places are proven. Where it does not (a template that rewrites words), nothing is claimed: message -1 throughout.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from tickertape.renderers.messages import Message
from tickertape.renderers.pieces import Kind
from tickertape.renderers.template.quoting import HIDDEN_BELOW

_MARKERS_AT = HIDDEN_BELOW  # within a quoting plane, above what is hidden there
_MOST_MARKERS = 0x1F00


class Region(NamedTuple):
    """A stretch of the rendered text with one owner."""

    text: str
    message: int
    kind: Kind


def attribute(
    text: str,
    messages: Sequence[Message],
    render: Callable[[Sequence[Message]], str],
    *,
    plane: int,
    close_token: str | None,
    generation_prompt: str,
) -> list[Region]:
    """Regions of ``text``, in order and complete.

    Args:
        text: what the template makes of ``messages``.
        messages: quoted messages.
        render: renders messages as ``text`` was rendered.
        plane: the private-use area in use.
        close_token: the control token that closes a turn, where there is one.
        generation_prompt: what the template puts before an assistant's first token.
    """
    for with_empty in (True, False):
        marked, texts, owners = _mark(messages, plane, with_empty=with_empty)
        if len(texts) > _MOST_MARKERS:
            break
        regions = _align(render(marked), text, texts, owners, plane)
        if regions is not None:
            return _widen(regions, messages, close_token, generation_prompt)
    return [Region(text, -1, Kind.SCAFFOLD)]


def _mark(messages: Sequence[Message], plane: int, *, with_empty: bool) -> tuple[list[Message], list[str], list[int]]:
    """The messages with markers, what each marker stands for, and whose it is. An answer without words gets a marker
    too, if that is asked for; some templates would then render it otherwise."""
    texts: list[str] = []
    owners: list[int] = []
    marked: list[Message] = []

    def mark(value: str | None, index: int, *, always: bool = False) -> str | None:
        if not value and not always:
            return value
        texts.append(value or "")
        owners.append(index)
        return chr(plane + _MARKERS_AT + min(len(texts) - 1, _MOST_MARKERS))

    for index, message in enumerate(messages):
        wordless = message.role == "assistant" and not (message.content or message.reasoning or message.tool_calls)
        marked.append(
            replace(
                message,
                reasoning=mark(message.reasoning, index),
                content=mark(message.content, index, always=wordless and with_empty),
                tool_calls=tuple(
                    replace(call, name=mark(call.name, index) or call.name) for call in message.tool_calls
                ),
            )
        )
    return marked, texts, owners


def _align(skeleton: str, text: str, texts: Sequence[str], owners: Sequence[int], plane: int) -> list[Region] | None:
    """Regions of ``text``, which must be the skeleton with each marker's words, as they are or as templates trim them,
    in its place; ``None`` where it is not."""
    first, last = plane + _MARKERS_AT, plane + _MARKERS_AT + len(texts)
    pieces = re.split(f"([{chr(first)}-{chr(last)}])", skeleton)  # markup and markers in turn
    regions: list[Region] = []
    at = 0
    for k in range(0, len(pieces), 2):
        markup = pieces[k]
        if not text.startswith(markup, at):
            return None
        if markup:
            regions.append(Region(markup, -1, Kind.SCAFFOLD))
        at += len(markup)
        if k + 1 == len(pieces):
            break
        number = ord(pieces[k + 1]) - first
        following = pieces[k + 2]
        words = next((w for w in _trimmed(texts[number]) if text.startswith(w + following, at)), None)
        if words is None:
            return None
        regions.append(Region(words, owners[number], Kind.CONTENT))
        at += len(words)
    return regions if at == len(text) else None


def _trimmed(words: str) -> Iterator[str]:
    """The words, then as templates trim them."""
    yield words
    for characters in (None, "\n"):
        yield words.strip(characters)
        yield words.lstrip(characters)
        yield words.rstrip(characters)


def _widen(
    regions: list[Region], messages: Sequence[Message], close_token: str | None, generation_prompt: str
) -> list[Region]:
    """Gives the scaffold around the words its owners: up to the close it belongs to the message before, then to the
    message after; an assistant's output reaches from the end of its header to its close, tags included."""
    widened: list[Region] = []
    owner = -1
    for k, region in enumerate(regions):
        if region.kind is Kind.CONTENT:
            owner = region.message
            kind = Kind.OUTPUT if messages[owner].role == "assistant" else Kind.CONTENT
            widened.append(region._replace(kind=kind))
            continue
        following = regions[k + 1].message if k + 1 < len(regions) else -1
        widened += _divide(region.text, owner, following, messages, close_token, generation_prompt)
    return [region for region in widened if region.text]


def _divide(
    text: str, before: int, after: int, messages: Sequence[Message], close_token: str | None, generation_prompt: str
) -> Iterator[Region]:
    if before == after and before >= 0:  # between two texts of one message
        kind = Kind.OUTPUT if messages[before].role == "assistant" else Kind.SCAFFOLD
        yield Region(text, before, kind)
        return
    if before >= 0:
        close = text.find(close_token) + len(close_token) if close_token and close_token in text else 0
        kind = Kind.OUTPUT if messages[before].role == "assistant" else Kind.SCAFFOLD
        yield Region(text[:close], before, kind)
        text = text[close:]
    if after >= 0 and messages[after].role == "assistant" and generation_prompt in text:
        header = text.rindex(generation_prompt) + len(generation_prompt)
        yield Region(text[:header], after, Kind.SCAFFOLD)
        yield Region(text[header:], after, Kind.OUTPUT)
    else:
        yield Region(text, after, Kind.SCAFFOLD)
