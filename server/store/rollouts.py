"""Sessions as samples are made of them: tokens in arrays, and nothing that a sample does not need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.rows import Layout
from tickertape.server.store.schema import State
from tickertape.server.trajectories.columns import SessionFacts
from tickertape.server.trajectories.options import SampleOptions
from tickertape.server.trajectories.paths import TurnShape, TurnTokens
from tickertape.server.trajectories.turn import Outcome

Rollout = tuple[SessionFacts, list[TurnTokens]]

_INT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<f4")
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Sized:
    """A finished session, and how large it is at most as samples."""

    id: str
    number: int
    """Place in the order of finishing."""
    samples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The sessions of one page of samples."""

    sessions: list[Sized]
    more: bool
    """True if there were more when this page was chosen."""


def sizes(options: SampleOptions) -> tuple[sa.ColumnElement[int], sa.ColumnElement[int]]:
    """Samples and tokens that a finished session makes at most."""
    table = schema.sessions.c
    if options.per_turn:
        samples, tokens = table.sampled_turns, table.per_turn_tokens
    else:
        samples, tokens = table.samples, table.sample_tokens
    if options.max_length is None:
        return samples, tokens
    bound = samples * options.max_length
    return samples, sa.case((tokens > bound, bound), else_=tokens)


def finished(wanted: SessionFilter, options: SampleOptions) -> list[sa.ColumnElement[bool]]:
    """Conditions for sessions that may have samples."""
    table = schema.sessions.c
    found = [table.state == State.FINISHED.value, *wanted.conditions()]
    return found if options.oldest is None else [*found, table.freshest >= options.oldest]


def select(
    connection: sa.Connection,
    wanted: SessionFilter,
    options: SampleOptions,
    *,
    after: int,
    max_samples: int,
    max_tokens: int,
) -> Selection:
    """Finished sessions in the order of finishing, as many as fit the limits, and one if there is any."""
    samples, tokens = sizes(options)
    table = schema.sessions.c
    query = (
        sa.select(table.id, table.finish_number, samples.label("samples"), tokens.label("tokens"))
        .where(*finished(wanted, options), table.finish_number > after)
        .order_by(table.finish_number)
        .limit(max_samples + 1)
    )
    rows = [Sized(*row) for row in connection.execute(query)]
    fitting = fit(rows, max_samples, max_tokens)
    return Selection(fitting, more=len(fitting) < len(rows))


def fit(sessions: Sequence[Sized], max_samples: int, max_tokens: int) -> list[Sized]:
    """The first ones that stay below both limits together; the first even if it does not."""
    chosen: list[Sized] = []
    for each in sessions:
        max_samples -= each.samples
        max_tokens -= each.tokens
        if chosen and (max_samples < 0 or max_tokens < 0):
            break
        chosen.append(each)
    return chosen


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of finished sessions."""

    sessions: int
    samples: int
    sample_tokens: int
    sampled_tokens: int
    per_turn_tokens: int
    """Tokens of the samples if every sampled turn were one of its own."""
    open_sessions: int
    """Sessions of the same filter that are not finished yet."""


def totals(connection: sa.Connection, wanted: SessionFilter, after: int = 0) -> Totals:
    """Counts the finished sessions after ``after`` up."""
    table = schema.sessions.c
    names = ("samples", "sample_tokens", "sampled_tokens", "per_turn_tokens")
    # Cast, because PostgreSQL's sum of large integers is a decimal.
    sums = [sa.cast(sa.func.coalesce(sa.func.sum(table[name]), 0), schema.Integer).label(name) for name in names]
    chosen = (*finished(wanted, SampleOptions()), table.finish_number > after)
    row = connection.execute(sa.select(sa.func.count().label("sessions"), *sums).where(*chosen)).one()
    still = sa.select(sa.func.count()).select_from(schema.sessions)
    n_open = connection.scalar(still.where(table.state == State.OPEN.value, *wanted.conditions()))
    return Totals(**row._mapping, open_sessions=n_open or 0)


def chunks(sessions: Sequence[Sized], most: int = 2_000_000) -> Iterator[list[str]]:
    """Session ids in parts of about ``most`` tokens, so that memory holds one part at a time."""
    rest = list(sessions)
    while rest:
        part = fit(rest, len(rest) * most, most)
        del rest[: len(part)]
        yield [each.id for each in part]


def read(connection: sa.Connection, session_ids: Sequence[str]) -> list[Rollout]:
    """Sessions with all turns that were in time, in the order of ``session_ids``; one that is not there is left out."""
    table, turns = schema.sessions.c, schema.turns.c
    facts = {
        row.id: SessionFacts(*row)
        for row in connection.execute(
            sa.select(
                table.id,
                table.task_id,
                table.group_id,
                table.policy_version,
                table.finished_at,
                table.reward,
                table.metadata,
            ).where(table.id.in_(session_ids))
        )
    }
    by_session: dict[str, list[TurnTokens]] = {session_id: [] for session_id in facts}
    rewards = _rewards(connection, session_ids)
    query = (
        sa.select(
            turns.session_id,
            turns.id,
            turns.parent_id,
            turns.outcome,
            turns.first_message,
            turns.prompt_delta,
            turns.completion,
            turns.logprobs,
            turns.layout,
        )
        .where(turns.session_id.in_(session_ids), turns.late.is_(False))
        .order_by(turns.session_id, turns.seq)
    )
    for session_id, *columns in connection.execute(query):
        by_session[session_id].append(_turn(rewards.get(columns[0]), *columns))
    return [(facts[session_id], by_session[session_id]) for session_id in session_ids if session_id in facts]


def shapes(connection: sa.Connection, session_id: str) -> list[TurnShape]:
    """Returns what counting needs of a session's turns that were in time; their tokens are not read."""
    turns = schema.turns.c
    query = (
        sa.select(
            turns.id,
            turns.parent_id,
            turns.outcome,
            sa.func.length(turns.prompt_delta),
            sa.func.length(turns.completion),
            turns.layout,
        )
        .where(turns.session_id == session_id, turns.late.is_(False))
        .order_by(turns.seq)
    )
    return [
        TurnShape(
            id=turn_id,
            parent_id=parent_id,
            outcome=outcome,
            n_prompt=prompt_bytes // 4,
            n_sampled=completion_bytes // 4,
            versions=Layout.read(layout).versions,
        )
        for turn_id, parent_id, outcome, prompt_bytes, completion_bytes, layout in connection.execute(query)
    ]


def _turn(
    rewarded: tuple[float | None, bytes | None] | None,
    turn_id: str,
    parent_id: str | None,
    outcome: str,
    first_message: int,
    prompt_delta: bytes,
    completion: bytes,
    logprobs: bytes,
    layout: bytes,
) -> TurnTokens:
    versions, prompt_spans, roles = Layout.read(layout)
    reward, token_rewards = rewarded or (None, None)
    return TurnTokens(
        id=turn_id,
        parent_id=parent_id,
        outcome=_OUTCOMES[outcome],
        n_prompt=len(prompt_delta) // 4,
        n_sampled=len(completion) // 4,
        versions=versions,
        first_message=first_message,
        roles=roles,
        prompt_spans=prompt_spans,
        prompt_delta=np.frombuffer(prompt_delta, _INT32),
        completion=np.frombuffer(completion, _INT32),
        logprobs=np.frombuffer(logprobs, _FLOAT32),
        reward=reward,
        token_rewards=None if token_rewards is None else np.frombuffer(token_rewards, _FLOAT32),
    )


def _rewards(connection: sa.Connection, session_ids: Sequence[str]) -> dict[str, tuple[float | None, bytes | None]]:
    table = schema.rewards.c
    query = sa.select(table.turn_id, table.reward, table.token_rewards).where(table.session_id.in_(session_ids))
    return {turn_id: (reward, token_rewards) for turn_id, reward, token_rewards in connection.execute(query)}
