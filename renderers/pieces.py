"""Pieces: what a model family says about its format.

A family describes a message as a few pieces of text in order. A piece says whose words they are (its :class:`Kind`) and
which control tokens its text may spell (its ``trust``); everything else (ids, masks, attribution, bridging, weights) is
made from pieces by generic code.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple, TypeAlias


class Kind(IntEnum):
    """Whose words a token carries."""

    SCAFFOLD = 0
    """The format's own: turn markers, role names, tool instructions."""
    CONTENT = 1
    """A message that the model reads."""
    OUTPUT = 2
    """An assistant message that the caller supplied: what the model would have sampled, its stop token included."""
    SAMPLED = 3
    """Sampled by an engine."""


class Trust(IntEnum):
    """Which control tokens a piece's text may become."""

    NONE = 0
    """None: spelled-out control tokens are encoded as ordinary text."""
    TAGS = 1
    """The family's reasoning and tool-call tags, never its turn markers: text that an assistant said."""
    ALL = 2
    """All: text that the renderer itself wrote."""


class Piece(NamedTuple):
    """Text of one kind and trust."""

    text: str
    kind: Kind
    trust: Trust


def markup(text: str) -> Piece:
    """The format's own text, control tokens included: ``markup("<|im_start|>user\\n")``."""
    return Piece(text, Kind.SCAFFOLD, Trust.ALL)


def content(text: str) -> Piece:
    """Text from outside (user, tool, system, tool schema); spells no control token."""
    return Piece(text, Kind.CONTENT, Trust.NONE)


def output(text: str) -> Piece:
    """Text of an assistant message as the caller supplied it; reasoning and tool-call tags in it mean what they say."""
    return Piece(text, Kind.OUTPUT, Trust.TAGS)


def output_value(text: str) -> Piece:
    """A value inside an assistant's tool call (name or arguments); a tag spelled in it is a word like any other."""
    return Piece(text, Kind.OUTPUT, Trust.NONE)


def output_markup(text: str) -> Piece:
    """The format's own text in an assistant message that the model would have sampled: tags, separators, the close."""
    return Piece(text, Kind.OUTPUT, Trust.ALL)


#: A piece with the index of the message that it belongs to, -1 where there is none (the generation prompt).
Placed: TypeAlias = tuple[int, Piece]


def place(message: int, pieces: Iterable[Piece]) -> Iterator[Placed]:
    """All ``pieces`` as belonging to one message."""
    return ((message, piece) for piece in pieces)
