"""The shape of a part of an answer, for engines that hold a model to it: the parts in the order they are written.

A format describes its thoughts, its answers and its calls in these terms; what an engine gets of them is not its
business. A description is narrower than what is read back: it is what the model's own template would have written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value of a schema."""

    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """Any text up to ``end``, and that too."""

    end: str = ""
    """Empty: to the end of the answer."""
    without: tuple[str, ...] = ()
    """Tags that do not stand in it, beside those of ``end``."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Text that a regular expression matches as a whole."""

    pattern: str


def white_space(characters: str, most: int) -> "Shape":
    """Up to so many of these characters, in any order."""
    escaped = characters.encode("unicode_escape").decode()
    return (Matching(f"[{escaped}]{{0,{most}}}"),) if characters else ()


@dataclass(frozen=True, slots=True)
class Perhaps:
    """Something that may be left out."""

    shape: "Shape"


@dataclass(frozen=True, slots=True)
class Either:
    """One of several."""

    ways: "tuple[Shape, ...]"


@dataclass(frozen=True, slots=True)
class Repeated:
    """Something any number of times, also none."""

    shape: "Shape"


@dataclass(frozen=True, slots=True)
class AtMostOne:
    """Any text; the first of the ``ways`` that begins in it is its last word."""

    tag: str
    """The tag that each of the ways begins with."""
    ways: "tuple[Shape, ...]"
    without: tuple[str, ...] = ()
    """Tags that do not stand in the text."""


#: Parts one after the other; a string stands for itself, control tokens in it for the tokens.
Shape: TypeAlias = tuple["str | Json | Text | Matching | Perhaps | Either | Repeated | AtMostOne", ...]


@dataclass(frozen=True, slots=True)
class CallsShape:
    """The way in which a format writes calls of one tool."""

    call: Shape
    before: str = ""
    """Once, before the first call."""
    between: str | None = ""
    """Between two calls; ``None`` where a turn ends with its first."""
    after: str = ""
    """Once, after the last call."""
