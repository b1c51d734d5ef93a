"""Sessions: made, listed, rewarded, closed. What trainers say of rollouts."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tickertape.server.auth.access import Access, allow, principal_of
from tickertape.server.auth.session_keys import LONGEST_LIFE, SessionKey
from tickertape.server.calls.identity import checked_session_id
from tickertape.server.calls.service import service_of
from tickertape.server.errors import SessionClosed
from tickertape.server.routes import shapes
from tickertape.server.routes.answers import json_answer, read_cursor, write_cursor
from tickertape.server.routes.described import TAPE, described
from tickertape.server.routes.queries import read_query
from tickertape.server.store import arrays, rewards, sessions
from tickertape.server.store.arrays import ArrayFacts
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.rewards import Rewards
from tickertape.server.store.schema import State
from tickertape.server.store.sessions import SessionRecord
from tickertape.server.store.store import Store
from tickertape.server.trajectories.turn import Turn

router = APIRouter(tags=["sessions"])

KeyLife: TypeAlias = Annotated[float, Field(gt=0, le=LONGEST_LIFE)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]


class Changes(BaseModel):
    """The fields that a trainer may set on a session, at any time."""

    model_config = ConfigDict(extra="forbid")

    task_id: _Name | None = None
    group_id: _Name | None = None
    policy_version: _Name | None = None
    metadata: dict[str, Any] = {}
    reward: Annotated[float, Field(allow_inf_nan=False)] | None = None


class NewSession(Changes):
    """A session to be."""

    id: str | None = None
    key_expires_in: KeyLife | None = None
    """Seconds: makes a key for its agent, too. Null: none."""


class WantedSessionKey(BaseModel):
    """A key for a session's agent."""

    model_config = ConfigDict(extra="forbid")

    expires_in: KeyLife = 86400
    """Seconds."""


@dataclass(frozen=True, slots=True)
class CreatedSession(sessions.SessionRecord):
    """A session, and the key for its agent where one was asked for."""

    agent_key: SessionKey | None


class GivenRewards(BaseModel):
    """Rewards; what is not mentioned stays as it is, and null takes a reward back."""

    model_config = ConfigDict(extra="forbid")

    reward: float | None = None
    turns: dict[str, float | None] = {}
    tokens: dict[str, list[float] | None] = {}


@dataclass(frozen=True, slots=True)
class Page:
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = None


@router.post("/sessions")
@allow(Access.TRAINER)
@described(CreatedSession, (400, 409, *TAPE), 201)
async def create_session(request: Request, given: NewSession) -> Response:
    """Makes a session before its first turn. A session that an agent's call names first is made without this."""
    session_id = principal_of(request).new_session_id() if given.id is None else checked_session_id(given.id, "id")
    said = given.model_dump(exclude={"id", "key_expires_in"})
    await _store(request).write(sessions.create, session_id, time.time(), said)
    record = await _store(request).read(sessions.get, session_id)
    life = given.key_expires_in
    key = None if life is None else await service_of(request).keyring.make_session_key(session_id, life)
    return json_answer(CreatedSession(**_plain(record), agent_key=key), status=201)


@router.post("/sessions/{session_id}/key")
@allow(Access.TRAINER)
@described(SessionKey, (404, 400, 409, *TAPE), 201)
async def create_session_key(request: Request, session_id: str, given: WantedSessionKey | None = None) -> Response:
    """Makes a key for the session's agent, which reaches this session's calls of the model and nothing else. It is not
    kept, and ends by itself."""
    record = await _store(request).read(sessions.get, session_id)
    if record.state != State.OPEN:
        raise SessionClosed(f"the session {session_id!r} is {record.state}: its agent has nothing left to call")
    wanted = given or WantedSessionKey()
    return json_answer(await service_of(request).keyring.make_session_key(session_id, wanted.expires_in), status=201)


@router.get("/sessions")
@allow(Access.TRAINER)
@described(shapes.SessionPage, (400, *TAPE), query=(SessionFilter, Page))
async def list_sessions(request: Request) -> Response:
    """Sessions in order of creation. ``next`` is the ``after`` of the next page, null on the last one."""
    wanted, page = read_query(request, SessionFilter, Page)
    after = read_cursor(page.after)
    found = await _store(request).read(sessions.page, wanted, after=after, limit=page.limit)
    cursor = write_cursor(found[-1].created_at, found[-1].id) if len(found) == page.limit else None
    return json_answer({"sessions": found, "next": cursor})


@router.get("/sessions/{session_id}")
@allow(Access.TRAINER)
@described(SessionRecord, (404, *TAPE))
async def get_session(request: Request, session_id: str) -> Response:
    """One session, counted up; an open one as if it were finished now."""
    return json_answer(await _store(request).read(sessions.get, session_id))


@router.patch("/sessions/{session_id}")
@allow(Access.TRAINER)
@described(SessionRecord, (404, 400, *TAPE))
async def change_session(request: Request, session_id: str, given: Changes) -> Response:
    """Sets the fields that are sent. Metadata is replaced as a whole."""
    await _store(request).write(sessions.update, session_id, given.model_dump(exclude_unset=True))
    return await get_session(request, session_id)


@router.post("/sessions/{session_id}/finish")
@allow(Access.TRAINER)
@described(SessionRecord, (404, 409, *TAPE))
async def finish_session(request: Request, session_id: str) -> Response:
    """Makes its samples ready. Later calls of an agent are refused; turns under way are recorded, as late ones."""
    await _store(request).write(sessions.finish, session_id, time.time())
    _store(request).note_closed(session_id)
    return await get_session(request, session_id)


@router.post("/sessions/{session_id}/discard")
@allow(Access.TRAINER)
@described(SessionRecord, (404, 409, *TAPE))
async def discard_session(request: Request, session_id: str) -> Response:
    """Keeps it for the record, out of the samples. What is being sampled for it is aborted."""
    await _store(request).write(sessions.discard, session_id)
    _store(request).note_closed(session_id)
    service_of(request).turns.policy.break_off(session_id, "the session was discarded")
    return await get_session(request, session_id)


@router.delete("/sessions/{session_id}")
@allow(Access.TRAINER)
@described(None, (404, 409, *TAPE), 204)
async def delete_session(request: Request, session_id: str) -> Response:
    """Takes a session that is finished or discarded off the tape, its turns and rewards with it."""
    await _store(request).write(sessions.delete, session_id)
    service_of(request).forget([session_id])
    return Response(status_code=204)


@router.post("/sessions/{session_id}/reward")
@allow(Access.TRAINER)
@described(Rewards, (404, 400, *TAPE))
async def reward_session(request: Request, session_id: str, given: GivenRewards) -> Response:
    """Sets rewards: the session's, turns' by turn id, tokens' by turn id. They may be set anew at any time; samples
    that were read before do not change."""
    said = given.model_dump(exclude_unset=True)
    await _store(request).write(rewards.set_rewards, session_id, said, time.time())
    return await get_rewards(request, session_id)


@router.get("/sessions/{session_id}/reward")
@allow(Access.TRAINER)
@described(Rewards, (404, *TAPE))
async def get_rewards(request: Request, session_id: str) -> Response:
    """The rewards on tape."""
    return json_answer(await _store(request).read(_rewards, session_id))


@router.get("/sessions/{session_id}/turns")
@allow(Access.TRAINER)
@described(shapes.Turns, (404, 400, *TAPE))
async def get_turns(
    request: Request,
    session_id: str,
    after: Annotated[int, Query(ge=-1)] = -1,
    limit: Annotated[int, Query(ge=-1)] = -1,
) -> Response:
    """A session's turns in order of ``seq``, complete: all of them, or ``limit`` of those after ``after``."""
    turns = await _store(request).turns(session_id, after=after, limit=limit)
    if turns is None:
        raise sessions.no_session(session_id)
    named = await _store(request).read(arrays.described, session_id)
    shown = [turn_json(turn, named.get(turn.id, {})) for turn in turns]
    return json_answer({"session_id": session_id, "turns": shown})


def turn_json(turn: Turn, named: Mapping[str, ArrayFacts]) -> dict[str, Any]:
    """A turn under the field names of the trainer API; its tokens stay arrays. Token arrays have a route of their own:
    here they are ``named``."""
    shown = {name: getattr(turn, name) for name in Turn.__dataclass_fields__}
    shown["context_digest"] = turn.context_digest.hex()
    del shown["token_arrays"]
    shown["arrays"] = named
    return shown


def _plain(record: sessions.SessionRecord) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _rewards(connection: Any, session_id: str) -> rewards.Rewards:
    return rewards.get_rewards(connection, session_id, sessions.get(connection, session_id).reward)


def _store(request: Request) -> Store:
    return service_of(request).turns.store
