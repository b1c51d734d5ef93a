"""Reasoning syntax: how a model marks what it thinks before it speaks."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from tickertape.renderers.pieces import Piece, markup, output, output_markup
from tickertape.renderers.shape import Shape, Text, white_space


class ThoughtAt(Enum):
    """The state in which a prompt leaves the thought."""

    BEFORE = auto()
    """The model may begin one, or not."""
    INSIDE = auto()
    """The prompt opened one, which the model continues."""
    BEHIND = auto()
    """The prompt closed one, or the model has none."""


@dataclass(frozen=True, slots=True)
class TaggedReasoning:
    """Reasoning between two tags, as most open models write it."""

    open: str = "<think>"
    close: str = "</think>"
    around_close: tuple[str, str] = ("\n", "\n\n")
    """The texts before ``close`` and after it where a thought is written out."""
    inside: tuple[str, ...] = ()
    """Tags of the model's that may stand in a thought, and are part of its words."""
    label: str = ""
    """Text after ``open`` that belongs to it, such as the name of a channel."""

    @property
    def unfinished_close(self) -> str:
        """Returns what closes a thought, also one that was cut off in the middle."""
        before, behind = self.around_close
        return before + self.close + behind

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.open, self.close, *self.inside)

    def write(self, thought: str, *, opened: bool = False) -> Iterator[Piece]:
        """A thought as the model samples it; it is ``opened`` where the prompt already holds the opening tag."""
        opening = self.open + "\n"
        yield markup(opening) if opened else output_markup(opening)
        yield output(thought)
        yield output_markup(self.unfinished_close)

    def shape(self, *, opened: bool, between: str) -> Shape:
        """Returns how a thought is written, up to the content; ``between`` are characters that may stand before
        that."""
        thought = (Text(self.close, without=(self.open,)), *white_space(between, most=3))
        return thought if opened else (self.open + self.label, *thought)

    def split(self, content: str) -> tuple[str | None, str]:
        """Reasoning and the rest of a content that holds both, as Qwen's templates split it."""
        if self.close not in content:
            return None, content
        before, after = content.split(self.close)[0], content.split(self.close)[-1]
        return before.rstrip("\n").split(self.open)[-1].lstrip("\n"), after.lstrip("\n")
