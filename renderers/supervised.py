"""Loss weights for supervised examples."""

from collections.abc import Sequence
from enum import StrEnum

from tickertape.renderers.messages import Message
from tickertape.renderers.pieces import Kind
from tickertape.renderers.prompt import Prompt


class TrainOn(StrEnum):
    """Which tokens of a conversation a supervised example trains."""

    LAST_ASSISTANT_MESSAGE = "last_assistant_message"
    ALL_ASSISTANT_MESSAGES = "all_assistant_messages"
    LAST_TURN = "last_turn"
    """The assistant messages after the last user message: a final answer with the tool calls that led to it."""
    ALL_MESSAGES = "all_messages"
    """The words of every message, whoever said them, without the format's scaffold."""
    ALL_TOKENS = "all_tokens"


def supervised_weights(
    prompt: Prompt, messages: Sequence[Message], opening: Sequence[int], train_on: TrainOn | Sequence[bool]
) -> list[float]:
    """One weight, 0.0 or 1.0, for each token of ``prompt``.

    Args:
        prompt: the rendered conversation.
        messages: the messages it was rendered from.
        opening: ids of the generation prompt, which the model reads and does not sample.
        train_on: which tokens weigh 1.0; or a flag for each message, whose words are trained where it is set.

    Raises:
        ValueError: there are not as many flags as messages.
    """
    if train_on is TrainOn.ALL_TOKENS:
        return [1.0] * len(prompt)
    trained = _trained_messages(messages, train_on)
    weights: list[float] = []
    starts: dict[int, int] = {}
    for message, kind, n_tokens in prompt.spans:
        starts.setdefault(message, len(weights))
        weights += [1.0 if message in trained and kind in (Kind.OUTPUT, Kind.CONTENT) else 0.0] * n_tokens
    for index in trained:
        if messages[index].role == "assistant" and index in starts:
            _clear_opening(prompt, starts[index], opening, weights)
    return weights


def _trained_messages(messages: Sequence[Message], train_on: TrainOn | Sequence[bool]) -> frozenset[int]:
    everyone = range(len(messages))
    if not isinstance(train_on, TrainOn):
        if isinstance(train_on, str) or len(train_on) != len(messages):
            raise ValueError(
                f"train_on is {train_on!r}; it must be a TrainOn or one flag for each of {len(messages)} messages"
            )
        return frozenset(k for k in everyone if train_on[k])
    if train_on is TrainOn.ALL_MESSAGES:
        return frozenset(everyone)
    assistant = [k for k in everyone if messages[k].role == "assistant"]
    if train_on is TrainOn.LAST_ASSISTANT_MESSAGE:
        return frozenset(assistant[-1:])
    if train_on is TrainOn.LAST_TURN:
        last_user = max((k for k in everyone if messages[k].role == "user"), default=-1)
        return frozenset(k for k in assistant if k > last_user)
    return frozenset(assistant)


def _clear_opening(prompt: Prompt, start: int, opening: Sequence[int], weights: list[float]) -> None:
    """Takes the weight off what the generation prompt would have put in front of the model's first token."""
    if prompt.token_ids[start : start + len(opening)] == list(opening):
        weights[start : start + len(opening)] = [0.0] * len(opening)
