"""Answers again, from the tape: what they said, and the conversation that they ended."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import sqlalchemy as sa

from tickertape.clients.engines.engine import Sampling
from tickertape.renderers.messages import Message, as_messages
from tickertape.server.errors import InvalidRequest, NotFound
from tickertape.server.store import answers
from tickertape.server.store.store import Store
from tickertape.server.trajectories.matching import context_digests
from tickertape.server.trajectories.normalising import MatchPolicy
from tickertape.server.trajectories.turn import Outcome, TokenIds, Turn, no_tokens
from tickertape.server.turns.reading import AnswerReader
from tickertape.server.turns.renderer_pool import RendererPool
from tickertape.server.turns.request import INSTRUCTIONS, Follows, ToolChoice, TurnRequest, TurnResult

#: Whether a client may read a session.
MayRead: TypeAlias = Callable[[str], bool]

_NO_ANSWER = (Outcome.REJECTED, Outcome.REPLAYED)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A turn that is on tape."""

    turn: Turn
    standing: list[Message]
    """The messages in front of its conversation: instructions."""
    before: list[Message]
    """The conversation that it answered."""
    prompt_ids: TokenIds
    """int32[]: its complete prompt."""


async def recall(store: Store, turn_id: str, may_read: MayRead, dialect: str) -> Recalled | None:
    """A turn by its id, for the client that it answered.

    Args:
        store: the tape.
        turn_id: the turn.
        may_read: whether a session is there for this client.
        dialect: the protocol that it must be of.

    Returns:
        ``None`` if it is not on tape, or not to be given again: the client said ``store=false``, or has deleted it.

    Raises:
        StoreError: the tape cannot be read.
    """
    path = await store.read(_visible_path, turn_id)
    if not path or path[-1].dialect != dialect or not may_read(path[-1].session_id):
        return None
    turn = path[-1]
    if turn.outcome in _NO_ANSWER or turn.request_fields.get("store") is False:
        return None
    messages = _conversation(path)
    standing = turn.request_fields.get(INSTRUCTIONS, 0)
    tokens = [part for earlier in path[:-1] for part in (earlier.prompt_delta, earlier.completion)]
    prompt_ids = np.concatenate([*tokens, turn.prompt_delta])
    return Recalled(turn, messages[:standing], messages[standing:], prompt_ids)


async def complete(store: Store, request: TurnRequest, may_read: MayRead) -> str | None:
    """Puts what the client left out of its answers into the request's messages, by the turns that their ids name.

    Returns:
        The session of those turns; ``None`` where none is known.

    Raises:
        NotFound: the client refers to an answer that is not there for it.
    """
    known = await store.read(answers.said, {partial.turn_id for partial in request.partial.values()})
    session_id = None
    for index, partial in request.partial.items():
        said = known.get(partial.turn_id)
        if said is None or not may_read(said.session_id) or session_id not in (None, said.session_id):
            said = None
        if partial.param is not None and (said is None or not said.may_be_told_again):
            raise NotFound(
                f"{partial.param}: Item not found. Items are not given again where store is false or the answer was"
                " deleted; refer to what this session's answers hold, or send the item itself.",
                param=partial.param,
            )
        if said is not None:
            session_id = said.session_id
            (whole,) = as_messages([said.response])
            sent = request.messages[index]
            request.messages[index] = replace(
                sent,
                content=whole.content if partial.content else sent.content,
                reasoning=whole.reasoning if partial.reasoning else sent.reasoning,
                tool_calls=whole.tool_calls if partial.calls else sent.tool_calls,
            )
    return session_id


async def go_on(store: Store, request: TurnRequest, follows: Follows, may_read: MayRead, matching: MatchPolicy) -> str:
    """Puts the conversation that a request goes on from between its instructions and its own messages.

    Returns:
        Its session.

    Raises:
        NotFound: there is no such turn for this client.
        InvalidRequest: its conversation cannot be continued.
    """
    recalled = await recall(store, follows.turn_id, may_read, request.dialect)
    if recalled is None:
        raise NotFound(
            f"{follows.param} {follows.name!r:.200} is not found, or not in this call's session",
            param=follows.param,
            code=f"{follows.param.removesuffix('_id')}_not_found",
        )
    turn, answer = recalled.turn, as_messages([recalled.turn.response] if recalled.turn.response else [])
    whole = [*recalled.standing, *recalled.before, *answer]
    # What was rebuilt is what the turn was known by, or it is not continued.
    if not answer or context_digests(whole, matching)[-1] != turn.context_digest:
        raise InvalidRequest(
            f"{follows.param} {follows.name!r:.200} has no answer that can be gone on from: send the history",
            param=follows.param,
        )
    standing = request.fields.get(INSTRUCTIONS, 0)
    own = request.messages
    request.messages = [*own[:standing], *recalled.before, *answer, *own[standing:]]
    return turn.session_id


def read_again(recalled: Recalled, renderers: RendererPool) -> TurnResult:
    """Returns what a turn said, read from its tokens as it was the first time."""
    turn = recalled.turn
    request = TurnRequest(
        dialect=turn.dialect,
        model=turn.model,
        messages=[],
        tools=turn.tools,
        tool_choice=ToolChoice(reads_calls=turn.request_fields.get("tool_choice") != "none"),
        sampling=Sampling(max_tokens=0, stop=tuple(turn.sampling.get("stop", ()))),
        counts_reasoning=True,
    )
    return read_answer(turn, recalled.prompt_ids, request, renderers)


def read_answer(turn: Turn, prompt_ids: TokenIds, request: TurnRequest, renderers: RendererPool) -> TurnResult:
    """A turn's answer from its tokens, as ``request`` has it read.

    Args:
        turn: it did not continue another turn's answer.
        prompt_ids: int32[]: its complete prompt.
        request: what was asked.
        renderers: the model's.
    """
    renderer = renderers.get(turn.template_options)
    opening = turn.prompt_delta.tolist()
    # A copy: reading enters an outcome, which the tape knows better.
    reader = AnswerReader(replace(turn), renderer, request, answered=no_tokens(), prompt_end=opening)
    reader.feed(turn.completion.tolist())
    _, read = reader.finish()
    return TurnResult(
        turn=turn,
        message=read.told,
        parts=read.parts,
        prompt_ids=prompt_ids,
        reasoning_tokens=reader.reasoning_tokens,
    )


def _visible_path(connection: sa.Connection, turn_id: str) -> list[Turn]:
    return [] if answers.is_hidden(connection, turn_id) else answers.path_to(connection, turn_id)


def _conversation(path: list[Turn]) -> list[Message]:
    """The messages that the last turn of a path answered."""
    messages: list[Message] = []
    last: Turn | None = None
    for turn in path:
        if last is not None:
            messages += as_messages([last.response or {}])
            # A turn that begins in the middle of an answer tells it again.
            if turn.first_message <= last.answer_index:
                del messages[turn.first_message :]
        messages += as_messages(turn.messages)
        last = turn
    return messages
