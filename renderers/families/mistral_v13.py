"""Mistral from tokenizer version 13 on: neighbours of one role share a turn; tools stand before the first question.

Sources: the templates of mistralai/Ministral-3-{3B,8B,14B}-Instruct-2512 and Devstral-Small-2-24B-Instruct-2512 (which
show no thoughts), Ministral-3-3B-Reasoning-2512 and Mistral-Large-3-675B-Instruct-2512 (which do),
Mistral-Small-4-119B-2603 and Mistral-Medium-3.5-128B (whose thinking is a setting).
"""

import json
from collections.abc import Iterator

from tickertape.renderers.draft import UNPADDED
from tickertape.renderers.errors import RenderError
from tickertape.renderers.families.mistral import MistralV3Tekken, MistralV7, in_tags, is_first_user
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.mistral_calls import MistralCalls

_CALLS = MistralCalls(has_ids=False)
_THINK = TaggedReasoning("[THINK]", "[/THINK]", around_close=("", ""))
#: What may stand after a message of each role; ``None`` is the start.
_MAY_FOLLOW = {
    None: ("user", "system"),
    "system": ("user", "assistant", "system"),
    "user": ("assistant", "system", "user"),
    "assistant": ("assistant", "user", "tool"),
    "tool": ("assistant", "tool", "user"),
}


class MistralV13(MistralV7):
    """Ministral 3 and Devstral 2."""

    name = "mistral-v13"
    markers = (*MistralV3Tekken.markers, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[ARGS]")
    response = ResponseFormat(tool_calls=_CALLS, padding=UNPADDED)

    def check_turns(self, start: Place) -> None:
        before = "assistant" if start.first is None else None
        if before and start.message.role == "assistant":
            raise RenderError("an assistant's turn that was sampled cannot be gone on with")
        for message in start.messages:
            if message.role not in _MAY_FOLLOW[before]:
                raise RenderError(f"a message of role {message.role} cannot stand behind {before or 'nothing'}")
            before = message.role

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "user":
            joins = place.neighbour_has_role(-1, "user")
            if not joins and is_first_user(place):
                yield from self.before_questions(place)
            yield markup("\n\n" if joins else "[INST]")
            yield content(message.text)
            if not place.neighbour_has_role(+1, "user"):
                yield markup("[/INST]")
        elif message.role == "assistant":
            yield from self.said(place)
            if not place.neighbour_has_role(+1, "assistant"):
                yield from self._calls_of_turn(place)
                yield from self.close
        else:
            yield from self.result(message)

    def before_questions(self, place: Place) -> Iterator[Piece]:
        """Yields what stands before the first question of a conversation."""
        if place.tools:
            yield from in_tags("AVAILABLE_TOOLS", content(json.dumps(list(place.tools), ensure_ascii=False)))

    def said(self, place: Place) -> Iterator[Piece]:
        message = place.message
        thought = self.thought(message, exact=place.exact)
        if thought is not None:
            yield output_markup(_THINK.open)
            yield output(thought)
            yield output_markup(_THINK.close)
        elif message.content is not None and self._joins_words(place):
            yield output_markup("\n\n")
        yield output(message.text)

    def thought(self, message: Message, *, exact: bool) -> str | None:  # noqa: ARG002
        """The thought that is shown with a message."""
        return None

    def _joins_words(self, place: Place) -> bool:
        """Returns True if words of the same turn stand right before, with no thought in between."""
        for message in _turn_so_far(place)[-2::-1]:
            thought = self.thought(message, exact=place.exact)
            if message.content is not None and (thought is None or message.content):
                return True
            if thought is not None:
                return False
        return False

    def _calls_of_turn(self, place: Place) -> Iterator[Piece]:
        """The calls of all messages of a turn, after all their words."""
        turn = _turn_so_far(place)
        calls = [call for message in turn for call in message.tool_calls]
        says = len(turn) > 1 or place.message.text or self.thought(place.message, exact=False)
        if not calls and not says and not place.exact:
            raise RenderError("an assistant message must have words or tool calls")
        yield from _CALLS.write(calls)

    def result_id(self, message: Message) -> Iterator[Piece]:  # noqa: ARG002
        yield from ()


class MistralV13Reasoning(MistralV13):
    """Ministral 3 Reasoning and Mistral Large 3; earlier thoughts stay in every prompt."""

    name = "mistral-v13-reasoning"
    markers = (*MistralV13.markers, *_THINK.tags)
    response = ResponseFormat(reasoning=_THINK, tool_calls=_CALLS, padding=UNPADDED)

    def thought(self, message: Message, *, exact: bool) -> str | None:
        return message.reasoning if exact else message.reasoning or None


class MistralSmall4(MistralV13Reasoning):
    """Mistral Small 4 and Medium 3.5, whose prompt says whether to think."""

    name = "mistral-small-4"
    markers = (*MistralV13Reasoning.markers, "[MODEL_SETTINGS]")

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        reasoning_effort: str = "none",
        default_system: str | None = None,
        history: History | str = History.EXACT,
    ) -> None:
        """``reasoning_effort`` is ``none`` or ``high``."""
        super().__init__(tokenizer, default_system=default_system, history=history)
        if reasoning_effort not in ("none", "high"):
            raise ValueError(f"reasoning_effort is {reasoning_effort!r}; it must be none or high")
        self.reasoning_effort = reasoning_effort

    def before_questions(self, place: Place) -> Iterator[Piece]:
        yield from super().before_questions(place)
        if place.first is not None:
            setting = json.dumps({"reasoning_effort": self.reasoning_effort})
            yield from in_tags("MODEL_SETTINGS", markup(setting))


def _turn_so_far(place: Place) -> list[Message]:
    """The messages of an assistant's turn up to this one."""
    start = place.index
    while start and place.messages[start - 1].role == "assistant":
        start -= 1
    return list(place.messages[start : place.index + 1])
