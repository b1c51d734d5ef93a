"""A turn's record, as far as it is known before anything is sampled."""

import time
from typing import Any

from tickertape.server.ids import new_id
from tickertape.server.trajectories import forks
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import value_digest
from tickertape.server.trajectories.preparing import Prepared
from tickertape.server.trajectories.turn import Outcome, Turn
from tickertape.server.turns.request import TurnRequest


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
