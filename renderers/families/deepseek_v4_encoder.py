"""DeepSeek V4 as its own encoder writes it (``encoding_dsv4.py`` on the hub page of deepseek-ai/DeepSeek-V4-Flash).

Sources: the templates of crusoeai/DeepSeek-V4-Flash, which follows the encoder byte for byte, and of
unsloth/DeepSeek-V4-Flash. Unlike llama.cpp's they drop thoughts of earlier exchanges where no tools are offered, and
open an answer only after a message that asks for one.
"""

from collections.abc import Iterable, Iterator, Sequence

from tickertape.renderers.families.deepseek_v3 import ASSISTANT, BEGIN
from tickertape.renderers.families.deepseek_v3_1 import TIGHT_THINK as THINK
from tickertape.renderers.families.deepseek_v3_2 import DeepSeekV4, dsml_response
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike

_MAXIMUM = (
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\nYou MUST be very thorough in your thinking and "
    "comprehensively decompose the problem to resolve the root cause, rigorously stress-testing your logic against all "
    "potential paths, edge cases, and adversarial scenarios.\nExplicitly write out your entire deliberation process, "
    "documenting every intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no "
    "assumption is left unchecked.\n\n"
)


class DeepSeekV4Unsloth(DeepSeekV4):
    name = "deepseek-v4-unsloth"

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        thinking: bool = False,
        reasoning_effort: str | None = None,
        history: History | str = History.EXACT,
    ) -> None:
        """``reasoning_effort="max"`` asks a model that thinks to think hard; nothing else is asked for."""
        super().__init__(tokenizer, thinking=thinking, drop_thinking=True, history=history)
        self.reasoning_effort = reasoning_effort
        if thinking and reasoning_effort == "max":
            self.preamble = (markup(BEGIN + _MAXIMUM),)

    def parts_tools_from(self, systems: Sequence[Message]) -> bool:
        return bool(systems)

    def header(self, last: Message | None) -> str | None:
        return ASSISTANT if last is not None and last.role in ("user", "tool") else None

    def thought_in_template(self, place: Place, header: str | None) -> Iterator[Piece]:
        if header is not None:
            yield from super().thought_in_template(place, header)
        elif self.thinking and self.keeps_thought(place):  # what another answer precedes is not opened, but closed
            yield output(place.message.reasoning or "")
            yield output_markup(THINK.close)

    def keeps_thought(self, place: Place) -> bool:
        return place.is_running or bool(place.tools)

    def generation_prompt_after(self, last: Message | None) -> Iterator[Piece]:  # noqa: ARG002
        return self.generation_prompt()


class DeepSeekV4Encoder(DeepSeekV4Unsloth):
    name = "deepseek-v4-encoder"
    response = dsml_response("tool_calls", without_parameters="\n")
    gathers_systems = False
    runs_without_query = True

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        thinking_mode: str = "thinking",
        reasoning_effort: str | None = None,
        history: History | str = History.EXACT,
    ) -> None:
        """``thinking_mode`` is ``"thinking"`` or ``"chat"``."""
        thinking = thinking_mode == "thinking"
        super().__init__(tokenizer, thinking=thinking, reasoning_effort=reasoning_effort, history=history)
        self.thinking_mode = thinking_mode

    def parts_tools_from(self, systems: Sequence[Message]) -> bool:  # noqa: ARG002
        return True

    def question(self, place: Place) -> Iterable[Piece]:
        return (content(place.message.text),) if place.message.role == "system" else super().question(place)

    def generation_prompt_after(self, last: Message | None) -> Iterator[Piece]:
        if self.header(last) is not None:
            yield from self.generation_prompt()
