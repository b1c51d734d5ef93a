"""Qwen2.5: ChatML with a default system message and Hermes tools. Source: the template of Qwen/Qwen2.5-7B-Instruct."""

import json
from collections.abc import Iterator
from dataclasses import replace

from tickertape.renderers.families.chatml import ChatML
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message
from tickertape.renderers.pieces import Piece, output
from tickertape.renderers.tokenizer import TokenizerLike


class Qwen25(ChatML):
    name = "qwen2.5"

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        default_system: str | None = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        history: History | str = History.EXACT,
    ) -> None:
        super().__init__(tokenizer, default_system=default_system, history=history)

    def said(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.text:
            yield output(message.text)
        # Even without text, the template puts a newline between the role and the first call; the generation prompt
        # ends with that very newline, so to the model they are the same.
        yield from self.calls_after(_with_json_arguments(message), bool(message.text))


def _with_json_arguments(message: Message) -> Message:
    """Arguments as the template prints them, which serialises values itself."""
    calls = (replace(c, arguments=json.dumps(c.arguments_value, ensure_ascii=False)) for c in message.tool_calls)
    return replace(message, tool_calls=tuple(calls))
