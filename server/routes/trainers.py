"""What trainers read."""

import base64
import binascii
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from tickertape.server.errors import InvalidRequest, NotFound
from tickertape.server.service import service_of
from tickertape.server.trajectories.samples import samples
from tickertape.server.trajectories.turn import Turn

router = APIRouter(tags=["trainers"])


@router.get("/sessions")
async def list_sessions(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100, after: str | None = None
) -> Response:
    """Sessions in order of creation. ``next`` is the ``after`` of the next page, null on the last one."""
    found = await service_of(request).turns.store.sessions(after=_read_cursor(after), limit=limit)
    cursor = _write_cursor(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return _json({"sessions": [asdict(session) for session in found], "next": cursor})


@router.get("/sessions/{session_id}")
async def get_session(request: Request, session_id: str) -> Response:
    """One session, counted up."""
    session = await service_of(request).turns.store.session(session_id)
    if session is None:
        raise _no_session(session_id)
    return _json(asdict(session))


@router.get("/sessions/{session_id}/turns")
async def get_turns(
    request: Request,
    session_id: str,
    after: Annotated[int, Query(ge=-1)] = -1,
    limit: Annotated[int, Query(ge=-1)] = -1,
) -> Response:
    """A session's turns in order of ``seq``, whole: all of them, or ``limit`` of those after ``after``."""
    turns = await _turns(request, session_id, after, limit)
    return _json({"session_id": session_id, "turns": [turn_json(turn) for turn in turns]})


@router.get("/sessions/{session_id}/samples")
async def get_samples(request: Request, session_id: str) -> Response:
    """A session's training samples: every path from a root to a leaf, each sampled token trained exactly once."""
    turns = await _turns(request, session_id, -1, -1)
    return _json({"session_id": session_id, "samples": [asdict_shallow(sample) for sample in samples(turns)]})


def turn_json(turn: Turn) -> dict[str, Any]:
    """A turn under the field names of the trainer API."""
    shown = asdict_shallow(turn)
    shown["context_digest"] = turn.context_digest.hex()
    return shown


def asdict_shallow(value: Any) -> dict[str, Any]:
    """A dataclass's fields as they are; arrays stay arrays, which orjson writes as lists (NaN as null)."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


async def _turns(request: Request, session_id: str, after: int, limit: int) -> list[Turn]:
    turns = await service_of(request).turns.store.turns(session_id, after=after, limit=limit)
    if turns is None:
        raise _no_session(session_id)
    return turns


def _no_session(session_id: str) -> NotFound:
    return NotFound(f"there is no session {session_id!r}", param="session_id", code="session_not_found")


def _write_cursor(created_at: float, session_id: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([created_at, session_id])).decode()


def _read_cursor(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    try:
        created_at, session_id = orjson.loads(base64.urlsafe_b64decode(cursor))
        return float(created_at), str(session_id)
    except (binascii.Error, orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise InvalidRequest("after is not a cursor: send the 'next' of an earlier answer", param="after") from error


def _json(value: Any) -> Response:
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")
