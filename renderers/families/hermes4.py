"""Hermes 4: ChatML on Qwen3, or Llama's turn markers, with thoughts and Hermes tools.

Sources: the templates of NousResearch/Hermes-4-14B and Hermes-4-70B.
"""

from collections.abc import Iterator, Sequence

from tickertape.renderers.families.chatml import HERMES, ChatML, hermes_tools, with_json_arguments
from tickertape.renderers.families.qwen3 import THINK
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike

_STANDARD = "You are Hermes, created by Nous Research."
_THINKING = (
    "You are a deep thinking AI, you may use extremely long chains of thought to deeply consider the problem and "
    "deliberate with yourself via systematic reasoning processes to help come to a correct solution prior to "
    "answering. You should enclose your thoughts and internal monologue inside <think> </think> tags, and then "
    "provide your solution or response to the problem."
)


class Hermes4(ChatML):
    """The hybrid models: they think if the system message tells them to, which ``thinking`` makes the default one do.

    What white space they put around a thought is not in their template; here it is Qwen3's.
    """

    name = "hermes-4"
    response = ResponseFormat(reasoning=THINK, tool_calls=HERMES)

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        thinking: bool = False,
        keep_cots: bool = False,
        history: History | str = History.EXACT,
    ) -> None:
        """Options as the template's variables: without ``keep_cots``, earlier thoughts are shown as empty ones."""
        super().__init__(tokenizer, default_system=_THINKING if thinking else _STANDARD, history=history)
        self.empties_thoughts = thinking and not keep_cots

    def offer(self, tools: Sequence[Tool], lead_in: str) -> Iterator[Piece]:
        preface = "You are a function calling AI model. "
        return hermes_tools(tools, lead_in, preface=preface, name='"<function-name>"')

    def said(self, place: Place) -> Iterator[Piece]:
        message = place.message
        text = message.text
        if place.exact and message.reasoning is not None:
            yield from THINK.write(message.reasoning.strip("\n"))
            text = text.lstrip("\n")
        elif not place.exact and self.empties_thoughts and text:
            text = "<think> </think>" + text.split(THINK.close, 1)[-1]
        yield output(text)
        yield from self.calls_after(message if place.exact else with_json_arguments(message), bool(text))


class Hermes4Llama(Hermes4):
    """Hermes 4 on Llama 3.1 and 4.3 on Seed-OSS: the same with Llama's turn markers."""

    name = "hermes-4-llama"
    markers = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    stop_tokens = ("<|eot_id|>", "<|end_of_text|>")
    close = (output_markup("<|eot_id|>"),)

    def header(self, role: str) -> Piece:
        return markup(f"<|start_header_id|>{role}<|end_header_id|>\n\n")

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup(self.tokenizer.special_tokens.get("bos_token", ""))
        _, *rest = super().start(system, tools)
        yield markup("<|start_header_id|>system<|end_header_id|>\n" + ("" if tools else "\n"))
        yield from rest
