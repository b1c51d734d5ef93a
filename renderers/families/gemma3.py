"""Gemma 3: ``<start_of_turn>user\\n…<end_of_turn>\\n``; the system message opens the first user's turn.

Sources: the templates of google/gemma-3-270m-it and, but for system messages, which it refuses, google/gemma-2-2b-it.
Neither knows tools; where the template would drop them without a word, they are refused.
"""

from collections.abc import Iterator, Sequence

from tickertape.renderers.errors import RenderError
from tickertape.renderers.format import Format, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup


class Gemma3(Format):
    name = "gemma3"
    markers = ("<bos>", "<start_of_turn>", "<end_of_turn>")
    stop_tokens = ("<end_of_turn>", "<eos>")
    close = (output_markup("<end_of_turn>"), markup("\n"))

    def check_turns(self, start: Place) -> None:
        turns = start.messages[start.index :]
        if start.tools or any(message.role == "tool" or message.tool_calls for message in turns):
            raise RenderError(f"{self.name} has no tools, no tool calls and no tool results")
        if not turns or any((message.role == "user") != (index % 2 == 0) for index, message in enumerate(turns)):
            raise RenderError("conversation roles must alternate user/assistant/user/assistant/...")

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:  # noqa: ARG002
        yield markup("<bos>")
        if system:
            yield markup("<start_of_turn>user\n")
            yield content(system.text)
            yield markup("\n\n")

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "assistant":
            yield from self.generation_prompt()
            yield output(message.text if place.exact else message.text.strip())
            yield from self.close
        else:
            if not (place.is_first and place.system):
                yield markup(f"<start_of_turn>{message.role}\n")
            yield content(message.text.strip())
            yield markup("<end_of_turn>\n")

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup("<start_of_turn>model\n")
