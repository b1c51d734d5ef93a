"""Qwen2.5: ChatML with a default system message and Hermes tools. Source: the template of Qwen/Qwen2.5-7B-Instruct."""

from collections.abc import Iterator
from typing import Any

from tickertape.renderers.families.chatml import ChatML, with_json_arguments
from tickertape.renderers.format import History, Place
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

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:  # noqa: ARG003
        return {}  # with another system message it is not Qwen's

    def said(self, place: Place) -> Iterator[Piece]:
        message = place.message
        yield output(message.text)
        # Even without text, the template puts a newline between the role and the first call; the generation prompt
        # ends with that very newline, so to the model they are the same.
        yield from self.calls_after(message if place.exact else with_json_arguments(message), bool(message.text))
