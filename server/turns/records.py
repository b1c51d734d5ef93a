"""A turn's record, as far as it is known before anything is sampled."""

import time
from typing import Any

from tickertape.renderers.messages import Message
from tickertape.server.ids import new_id
from tickertape.server.trajectories import forks
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import value_digest
from tickertape.server.trajectories.preparing import Prepared
from tickertape.server.trajectories.turn import Outcome, Turn
from tickertape.server.turns.request import TurnRequest

#: The recorded field with the answer before as the client sent it back, where it differs from what it got.
SENT_OTHERWISE = "sent_otherwise"


def opened(session_id: str, request: TurnRequest, asked: Asked) -> Turn:
    """The turn of a request that has just come in. Until it says otherwise, it was aborted."""
    digests = {"request": asked.digests[-1].hex()}
    if request.body_digest:
        digests["body"] = request.body_digest
    return Turn(
        id=new_id(),
        session_id=session_id,
        created_at=time.time(),
        dialect=request.dialect,
        model=request.model,
        tools=request.tools,
        tools_digest=value_digest(request.tools),
        template_options=request.template_options,
        request_fields=request.fields,
        ignored_fields=request.ignored,
        outcome=Outcome.ABORTED,
        digests=digests,
    )


def sent_otherwise(request: TurnRequest, prepared: Prepared) -> Message | None:
    """The answer that the turn goes on from, as the client sent it back, if it differs from what it got."""
    parent = prepared.parent
    if parent is None or not parent.told or not 0 < prepared.covered <= len(request.messages) or request.continues:
        return None
    sent = request.messages[prepared.covered - 1]
    return sent if sent.role == "assistant" and forks.told_digest(sent) != parent.told else None


def enter_prompt(turn: Turn, prepared: Prepared, added: list[dict[str, Any]], number: int) -> None:
    """Enters a turn's prompt, and where it hangs in the tree.

    Args:
        turn: the turn.
        prepared: its prompt.
        added: the messages that it adds, in OpenAI's chat shape.
        number: of the choice.
    """
    turn.parent_id = prepared.parent.id if prepared.parent else None
    turn.first_message = prepared.covered
    turn.messages = added
    turn.prompt_delta = prepared.prompt_delta
    turn.prompt_spans = prepared.prompt_spans
    turn.fork_reason = forks.N if number else prepared.fork_reason
    turn.usage = {"prompt_tokens": len(prepared.prompt_ids)}
