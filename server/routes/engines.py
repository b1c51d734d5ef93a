"""Engines, for operators: what they are and do, added and removed while the proxy runs."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tickertape.clients.engines.choose import UnknownEngine, make_engine
from tickertape.clients.engines.errors import EngineError, EngineRefused
from tickertape.clients.engines.pool import EnginePool, Member
from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.errors import Conflict, InvalidRequest, NotFound, ProxyError, from_engine
from tickertape.server.routes import shapes
from tickertape.server.routes.answers import json_answer
from tickertape.server.routes.described import described
from tickertape.server.routes.queries import read_query

router = APIRouter(prefix="/admin/engines", tags=["operators"])


class NewEngine(BaseModel):
    """An engine to be."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$")]
    engine: str
    """As on the command line: ``vllm=http://HOST:PORT``."""
    api_key: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    """Requests that it gets at once; what the others have if not given."""
    context: Annotated[int, Field(ge=256)] | None = None
    """Tokens of context, if it does not say so itself."""


class Confirmation(BaseModel):
    """Which weights an engine has."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class Removal:
    drain: Annotated[float, Field(ge=0, le=86400)] = 60
    """Seconds that running requests get."""


@router.get("")
@allow(Access.ADMIN)
@described(shapes.Engines)
async def list_engines(request: Request) -> Response:
    """All engines, and the version of weights that is expected of them."""
    pool = _pool(request)
    engines = [_shown(member) for member in pool.members.values()]
    return json_answer({"engines": engines, "expected_version": pool.expected, "waiting": pool.waiting})


@router.post("")
@allow(Access.ADMIN)
@described(shapes.EngineShown, (400, 409, 500, 502), 201)
async def add_engine(request: Request, given: NewEngine) -> Response:
    """Starts an engine and takes it in: same model, at least the context that is promised."""
    pool = _pool(request)
    if given.name in pool.members:
        raise Conflict(f"there is an engine {given.name!r} already", param="name")
    timeout = service_of(request).connect_timeout
    try:
        engine = make_engine(given.engine, given.api_key, connect_timeout=timeout, context=given.context)
        member = await pool.add(given.name, engine, limit=given.limit)
    except UnknownEngine as error:
        raise InvalidRequest(str(error), param="engine", code="invalid_value") from error
    except EngineError as error:
        raise _answer(error) from error
    return json_answer(_shown(member), status=201)


@router.delete("/{name}")
@allow(Access.ADMIN)
@described(None, (400, 404, 409, 500, 502), 204, query=(Removal,))
async def remove_engine(request: Request, name: str) -> Response:
    """Gives it nothing new, lets what it runs end for ``drain`` seconds, and answers when it is gone."""
    (removal,) = read_query(request, Removal)
    pool = _pool(request)
    _check_name(pool, name)
    try:
        await pool.remove(name, drain_seconds=removal.drain)
    except EngineError as error:
        raise _answer(error) from error
    return Response(status_code=204)


@router.post("/{name}/confirm")
@allow(Access.ADMIN)
@described(shapes.EngineShown, (400, 404, 409, 500, 502))
async def confirm_version(request: Request, name: str, given: Confirmation) -> Response:
    """Says which weights an engine has that cannot say so itself, after it was away."""
    pool = _pool(request)
    _check_name(pool, name)
    try:
        await pool.confirm(name, given.version)
    except EngineError as error:
        raise _answer(error) from error
    return json_answer(_shown(pool.members[name]))


def _shown(member: Member) -> dict[str, Any]:
    """A member under the field names of the admin API; what it has not said yet is null."""
    info = member.info
    return {
        "name": member.name,
        "kind": member.kind or None,
        "url": member.url or None,
        "state": member.state,
        "reason": member.reason or None,
        "model": info and info.model,
        "software_version": info and info.version,
        "endpoint": info and info.endpoint,
        "features": info and sorted(info.features),
        "missing": info and dict(sorted(info.missing.items())),
        "logprobs": info and info.logprobs,
        "adapters": info and info.adapters,
        "max_context": info and info.max_context,
        "policy_version": member.version,
        "running": member.running,
        "running_tokens": member.running_tokens,
        "limit": member.limit,
        "last_error": member.last_error,
        "served": member.served,
        "failed": member.failed,
    }


def _check_name(pool: EnginePool, name: str) -> None:
    if name not in pool.members:
        raise NotFound(f"there is no engine {name!r}; there are: {', '.join(pool.members)}", param="name")


def _answer(error: EngineError) -> ProxyError:
    """A refusal is about how things stand; the rest is the engine's failure."""
    return Conflict(str(error), param=error.param) if isinstance(error, EngineRefused) else from_engine(error)


def _pool(request: Request) -> EnginePool:
    return service_of(request).turns.pool
