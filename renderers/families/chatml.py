"""ChatML: ``<|im_start|>role\\n…<|im_end|>\\n``, with tools in the Hermes format.

Source: the chat templates of HuggingFaceTB/SmolLM2-135M-Instruct and Qwen/Qwen2.5-7B-Instruct. SmolLM2's template has
no tools; they are written as Qwen2.5 writes them, which is what ChatML models are commonly tuned on.
"""

import json
from collections.abc import Iterator, Sequence

from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.json_in_tags import JsonInTags

HERMES = JsonInTags()


class ChatML(Format):
    name = "chatml"
    markers = ("<|im_start|>", "<|im_end|>")
    stop_tokens = ("<|im_end|>", "<|endoftext|>")
    close = (output_markup("<|im_end|>"), markup("\n"))
    response = ResponseFormat(tool_calls=HERMES)

    def __init__(
        self, tokenizer: TokenizerLike, *, default_system: str | None = None, history: History | str = History.EXACT
    ) -> None:
        """``default_system`` is what the format says where a conversation brings no system message of its own."""
        super().__init__(tokenizer, history=history)
        self.default_system = default_system

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        default = self.default_words(tools)
        has_words = system is not None or default is not None
        if not has_words and not tools:
            return
        yield markup("<|im_start|>system\n")
        yield content(system.text) if system is not None else markup(default or "")
        if tools:
            yield from self.offer(tools, lead_in="\n\n" if has_words else "")
        yield markup("<|im_end|>\n")

    def default_words(self, tools: Sequence[Tool]) -> str | None:  # noqa: ARG002
        """The system message of a conversation that brings none."""
        return self.default_system

    def offer(self, tools: Sequence[Tool], lead_in: str) -> Iterator[Piece]:
        """The instructions that offer tools, behind the system message's words."""
        return hermes_tools(tools, lead_in)

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "tool":
            yield from self.result(place)
        elif message.role == "assistant":
            yield markup("<|im_start|>assistant\n")
            yield from self.said(place)
            yield from self.close
        else:
            yield markup(f"<|im_start|>{message.role}\n")
            yield content(self.words(message))
            yield markup("<|im_end|>\n")

    def words(self, message: Message) -> str:
        """A message's content as this format shows it."""
        return message.text

    def result(self, place: Place) -> Iterator[Piece]:
        """Pieces of a tool result, with the turn that it shares with its neighbours."""
        return hermes_tool_result(place, self.words(place.message))

    def said(self, place: Place) -> Iterator[Piece]:
        """Pieces of an assistant message between header and close."""
        text = self.words(place.message)
        yield output(text)
        yield from self.calls_after(place.message, bool(text))

    def calls_after(self, message: Message, has_text: bool) -> Iterator[Piece]:
        """The tool calls, set off from the words before them."""
        if message.tool_calls and has_text:
            yield output_markup(self.response.padding.before_calls)
        yield from self.calls(message)

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup("<|im_start|>assistant\n")


def hermes_tools(tools: Sequence[Tool], lead_in: str) -> Iterator[Piece]:
    """The instructions that offer tools, at the end of the system message."""
    yield markup(
        lead_in + "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
    )
    for tool in tools:
        yield markup("\n")
        yield content(json.dumps(tool, ensure_ascii=False))
    yield markup(
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
        "</tool_call>"
    )


def hermes_tool_result(place: Place, words: str) -> Iterator[Piece]:
    """One tool result; neighbouring results share one user turn."""
    if not place.neighbour_has_role(-1, "tool"):
        yield markup("<|im_start|>user")
    yield markup("\n<tool_response>\n")
    yield content(words)
    yield markup("\n</tool_response>")
    if not place.neighbour_has_role(+1, "tool"):
        yield markup("<|im_end|>\n")
