"""DeepSeek V3 and R1: ``<｜User｜>…<｜Assistant｜>…<｜end▁of▁sentence｜>``, calls as blocks of JSON in a section.

Sources: the templates of deepseek-ai/DeepSeek-V3, DeepSeek-R1, DeepSeek-R1-0528, DeepSeek-R1-Distill-Qwen-32B and
-Llama-8B, perplexity-ai/r1-1776. None shows the tools on offer. But for 0528's they lose count after the first calls
of a conversation: the section is opened once and for all, and some forget the text beside a call or a call's close.
``history="template"`` does the same; ``history="exact"`` shows every turn as the model samples it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from tickertape.renderers.draft import Padding
from tickertape.renderers.families.systems_first import SystemsFirst
from tickertape.renderers.format import Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tool_calls.named_json import FencedJson
from tickertape.renderers.tool_calls.section import Section

BEGIN, END, USER, ASSISTANT = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"
CALL = FencedJson("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", padding="\n")
CALLS = Section("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", CALL)
THINK = TaggedReasoning()


class DeepSeekV3(SystemsFirst):
    name = "deepseek-v3"
    markers: tuple[str, ...] = (BEGIN, END, USER, ASSISTANT)
    stop_tokens = (END,)
    close = (output_markup(END),)
    preamble = (markup(BEGIN),)
    response = ResponseFormat(tool_calls=CALLS, padding=Padding(before_calls="", after_call=""))
    opens_thought: ClassVar[bool] = False
    """True if the prompt opens a thought after a user message."""
    strips_thought: ClassVar[bool] = False
    """True if the template cuts what stands before ``</think>`` out of a content."""
    text_beside_calls: ClassVar[bool] = False
    """True if the template shows both; else it shows calls only where the content is null."""
    between_results: ClassVar[str] = "\n"

    def offer(self, systems: Sequence[Message], tools: Sequence[Tool]) -> tuple[Piece, ...]:  # noqa: ARG002
        return ()

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup(ASSISTANT + (f"{THINK.open}\n" if self.opens_thought else ""))

    def generation_prompt_after(self, last: Message | None) -> Iterator[Piece]:
        if last is None or last.role != "tool":  # after results the model goes on in its own turn
            yield from self.generation_prompt()

    def turn(self, place: Place) -> Iterator[Piece]:
        if place.message.role == "user":
            yield markup(USER)
            yield content(place.message.text)
        elif place.message.role == "tool":
            yield from self.result(place)
        else:
            yield from self.answer(place) if place.exact else self.answer_in_template(place)

    def answer(self, place: Place) -> Iterator[Piece]:
        """An assistant message as it was sampled."""
        message = place.message
        reasoning, text = message.reasoning, message.text
        if reasoning is None and self.response.reasoning:
            reasoning, text = THINK.split(text)
        if not place.neighbour_has_role(-1, "tool"):
            yield from self.header()
        if self.opens_thought and not place.neighbour_has_role(-1, "tool"):
            yield markup(f"{THINK.open}\n")
            yield from _thought(reasoning or "")
        elif reasoning is not None and self.response.reasoning:
            yield output_markup(f"{THINK.open}\n")
            yield from _thought(reasoning)
        yield output(text)
        yield from self.calls(message)
        yield from self.close

    def header(self) -> Iterable[Piece]:
        """Yields what opens an assistant message that does not follow a tool's result."""
        yield markup(ASSISTANT)

    def answer_in_template(self, place: Place) -> Iterator[Piece]:
        """An assistant message as the template shows it."""
        message = place.message
        after_result = place.neighbour_has_role(-1, "tool")
        if self.shows_calls(message):
            yield from self._calls_in_template(place)
        elif message.content is not None or self.text_beside_calls:
            if not after_result:
                yield from self.header()
            yield output(message.text if after_result else self.without_thought(message.text))
            yield from self.close

    def _calls_in_template(self, place: Place) -> Iterator[Piece]:
        was_opened = any(self.shows_calls(message) for message in place.messages[: place.index])
        for k, call in enumerate(place.message.tool_calls):
            if k or was_opened:
                yield output_markup("\n")
            else:
                yield from self.header()
                yield output(place.message.text)
                yield output_markup(CALLS.open)
            yield from CALL.write([call])
            if (k or was_opened) and not self.text_beside_calls:
                yield output_markup(CALLS.close + END)
        if self.text_beside_calls:
            yield output_markup(CALLS.close + END)

    def shows_calls(self, message: Message) -> bool:
        """Returns True if the template shows a message's calls."""
        return bool(message.tool_calls) and (self.text_beside_calls or message.content is None)

    def without_thought(self, text: str) -> str:
        return text.split(THINK.close)[-1] if self.strips_thought else text

    def result(self, place: Place) -> Iterator[Piece]:
        """A tool's result; neighbouring ones share a section."""
        yield markup("<｜tool▁outputs▁begin｜>" if self.begins_results(place) else self.between_results)
        yield markup("<｜tool▁output▁begin｜>")
        yield content(place.message.text)
        yield markup("<｜tool▁output▁end｜>")
        if place.is_last or self.ends_results(place, place.messages[place.index + 1]):
            yield markup("<｜tool▁outputs▁end｜>")

    def begins_results(self, place: Place) -> bool:
        if place.exact:
            return not place.neighbour_has_role(-1, "tool")
        return not any(message.role == "tool" for message in place.messages[: place.index])

    def ends_results(self, place: Place, following: Message) -> bool:
        if place.exact:
            return following.role != "tool"
        shows_text = self.text_beside_calls or following.content is not None
        return following.role == "assistant" and shows_text and not self.shows_calls(following)


def _thought(reasoning: str) -> Iterator[Piece]:
    yield output(reasoning.strip("\n"))
    yield output_markup(f"\n{THINK.close}\n\n")


class DeepSeekR1Distill(DeepSeekV3):
    """The distilled models; of several system messages their template keeps the last."""

    name = "deepseek-r1-distill"
    markers = (*DeepSeekV3.markers, *THINK.tags)
    response = ResponseFormat(
        reasoning=THINK, tool_calls=CALLS, padding=Padding(before_calls="", after_call=""), starts_in_reasoning=True
    )
    opens_thought = True
    strips_thought = True
    shows_last_system_only = True


class DeepSeekR1DistillUnopened(DeepSeekR1Distill):
    """The same with the first version of the template, in which the model opens its thought itself."""

    name = "deepseek-r1-distill-unopened"
    response = ResponseFormat(reasoning=THINK, tool_calls=CALLS, padding=Padding(before_calls="", after_call=""))
    opens_thought = False


class DeepSeekR1(DeepSeekR1Distill):
    name = "deepseek-r1"
    shows_last_system_only = False
    text_beside_calls = True
    between_results = ""


class PerplexityR1(DeepSeekR1):
    """r1-1776."""

    name = "r1-1776"
    response = DeepSeekR1DistillUnopened.response
    opens_thought = False


class DeepSeekR1Of0528(PerplexityR1):
    """R1-0528, whose template counts right: ``<｜Assistant｜>`` belongs to the user's turn, and to no other."""

    name = "deepseek-r1-0528"
    between_results = "\n"

    def turn(self, place: Place) -> Iterator[Piece]:
        yield from super().turn(place)
        if place.message.role == "user":
            yield markup(ASSISTANT)

    def generation_prompt_after(self, last: Message | None) -> Iterator[Piece]:
        if last is None or last.role == "assistant":
            yield markup(ASSISTANT)

    def header(self) -> Iterable[Piece]:
        return ()

    def answer_in_template(self, place: Place) -> Iterator[Piece]:
        yield output(self.without_thought(place.message.text))
        yield from self.calls(place.message)
        yield from self.close

    def begins_results(self, place: Place) -> bool:
        if place.exact:
            return super().begins_results(place)
        earlier = reversed(place.messages[: place.index])
        return next((m.role != "tool" for m in earlier if m.role == "tool" or m.tool_calls), True)

    def ends_results(self, place: Place, following: Message) -> bool:
        return following.role != "tool" if place.exact else following.role == "assistant"
