"""The group writer's operations on turns: commits them once, and changes and keeps those that their callers lost."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.trajectories.turn import Outcome, Turn


@dataclass(frozen=True, slots=True)
class Write:
    """A turn that is to be committed."""

    turn: Turn
    options_digest: str = ""


#: The turns of one call, which are committed together or not at all.
CommitCall: TypeAlias = Sequence[Write]

#: Outcomes of turns that had an answer to deliver.
_ANSWERED = {Outcome.STOP, Outcome.LENGTH, Outcome.TOOL_CALLS, Outcome.PARSE_FAILED, Outcome.REPLAYED}
#: Bytes that a turn takes up beside its tokens and messages, about.
_OVERHEAD = 2048
#: Ids asked for in one query.
_AT_ONCE = 500

_log = logging.getLogger("tickertape")


@dataclass(frozen=True, slots=True)
class TurnWrites:
    """See :class:`tickertape.server.store.writer.Writes`.

    Args:
        commit: commits turns that are not on tape.
        known: which of these ids are.
        probe: writes something that is not missed.
    """

    commit: Callable[[CommitCall], None]
    known: Callable[[Sequence[str]], set[str]]
    probe: Callable[[], None]

    def write(self, items: Sequence[CommitCall], *, again: bool) -> None:
        """Commits what is not on tape yet."""
        writes = [write for item in items for write in item]
        if again:
            known = self.known([write.turn.id for write in writes])
            writes = [write for write in writes if write.turn.id not in known]
        if writes:
            self.commit(writes)

    def given_up(self, item: CommitCall, reason: str) -> CommitCall:
        """The turns as their client knows them: without an answer."""
        return [replace(write, turn=undelivered(write.turn, reason)) for write in item]

    def lost(self, item: CommitCall, error: Exception) -> None:
        """Writes the turns to the log; no caller waits for them."""
        for write in item:
            log_lost(write.turn, error)


def undelivered(turn: Turn, reason: str) -> Turn:
    """Returns a turn whose client got an error, since the tape failed."""
    told = f"the client was told 503, since the tape failed: {reason}"
    if turn.outcome in _ANSWERED:
        text = f"{told}; it would have been {turn.outcome}"
        return replace(turn, outcome=Outcome.UNDELIVERED, error=text, context_digest=b"")
    return replace(turn, error=f"{turn.error}; {told}" if turn.error else told, context_digest=b"")


def log_lost(turn: Turn, error: Exception) -> None:
    """Says of a turn that it is on no tape, and never will be."""
    _log.error(
        "turn %s of session %s is lost, with %d prompt tokens and %d sampled tokens: %s",
        turn.id,
        turn.session_id,
        len(turn.prompt_delta),
        len(turn.completion),
        error,
    )


def size_of(turn: Turn) -> int:
    """Bytes that it takes up in memory, about: tokens, arrays, and its words."""
    words = sum(len(message.get("content") or "") for message in turn.messages)
    arrays = sum(array.nbytes for array in turn.token_arrays.values())
    return turn.prompt_delta.nbytes + turn.completion.nbytes + turn.logprobs.nbytes + arrays + words + _OVERHEAD


def known_turns(connection: sa.Connection, turn_ids: Sequence[str]) -> set[str]:
    """Those that are on tape."""
    known: set[str] = set()
    for start in range(0, len(turn_ids), _AT_ONCE):
        part = turn_ids[start : start + _AT_ONCE]
        known.update(connection.scalars(sa.select(schema.turns.c.id).where(schema.turns.c.id.in_(part))))
    return known
