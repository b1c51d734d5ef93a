"""Leases: finished sessions' samples for one consumer at a time."""

import time
import uuid
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.routes import shapes
from tickertape.server.routes.answers import SampleAnswer, json_answer
from tickertape.server.routes.described import FILES, SAMPLING, TAPE, described
from tickertape.server.routes.queries import Shape, checked, read_query
from tickertape.server.store import leases
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.leases import LeaseRecord
from tickertape.server.store.store import Store
from tickertape.server.trajectories.formats import Format, wanted_format
from tickertape.server.trajectories.options import SampleOptions

router = APIRouter(prefix="/samples/lease", tags=["leases"])

LEASE_HEADER = "X-Tickertape-Lease"
EXPIRES_HEADER = "X-Tickertape-Lease-Expires"
REMAINING_HEADER = "X-Tickertape-Remaining"

#: Seconds that a lease may be held without being extended.
_LONGEST = 7 * 86400
_Seconds = Annotated[float, Field(gt=0, le=_LONGEST)]


class LeaseRequest(BaseModel):
    """A consumer's request. ``filter`` and ``options`` are the query parameters of ``GET /samples``."""

    model_config = ConfigDict(extra="forbid")

    consumer: Annotated[str, Field(min_length=1, max_length=200)]
    limit: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Samples at most; a single session with more is leased alone."""
    max_tokens: Annotated[int, Field(ge=1)] = 8_000_000
    expires_in: _Seconds = 600
    filter: dict[str, Any] = {}
    options: dict[str, Any] = {}


class Named(BaseModel):
    """Sessions of a lease; all of them if none are named."""

    model_config = ConfigDict(extra="forbid")

    sessions: list[str] | None = None


class Extension(BaseModel):
    """The new time of expiry, in seconds from now."""

    model_config = ConfigDict(extra="forbid")

    expires_in: _Seconds


@router.post("")
@allow(Access.TRAINER)
@described(shapes.Leased, (400, 406, *TAPE), also=FILES, query=(Shape,))
async def take_lease(request: Request, given: LeaseRequest) -> Response:
    """Hands samples out. JSON: ``lease`` (null if there is nothing to hand out), ``remaining``, ``samples``; the other
    formats have the lease's id, its expiry and what remains in headers."""
    (shape,) = read_query(request, Shape)
    format_ = wanted_format(shape.format, request.headers.get("Accept"))
    wanted, options = checked(SessionFilter, given.filter), checked(SampleOptions, given.options)
    taken = await _store(request).write(
        leases.take,
        uuid.uuid4().hex,
        given.consumer,
        wanted,
        options,
        given.options,
        max_samples=given.limit,
        max_tokens=given.max_tokens,
        expires_in=given.expires_in,
        now=time.time(),
        expired_by=service_of(request).ages.now(_LONGEST),
    )
    remaining = asdict(taken.remaining)
    headers = {REMAINING_HEADER: ", ".join(f"{name}={number}" for name, number in remaining.items())}
    head = {"lease": None if taken.lease is None else asdict(taken.lease), "remaining": remaining}
    if taken.lease is not None:
        headers |= {LEASE_HEADER: taken.lease.id, EXPIRES_HEADER: repr(taken.lease.expires_at)}
    return SampleAnswer(_store(request), taken.sessions, options, format_).stream(head, headers)


@router.get("/{lease_id}")
@allow(Access.TRAINER)
@described(LeaseRecord, (404, *TAPE))
async def get_lease(request: Request, lease_id: str) -> Response:
    """One lease."""
    return json_answer(await _store(request).read(leases.get, lease_id))


@router.get("/{lease_id}/samples")
@allow(Access.TRAINER)
@described(shapes.LeasedAgain, (*SAMPLING, 409), also=FILES, query=(Shape,))
async def get_leased_samples(request: Request, lease_id: str) -> Response:
    """The samples that a lease still holds, once more."""
    (shape,) = read_query(request, Shape)
    format_: Format = wanted_format(shape.format, request.headers.get("Accept"))
    lease = await _store(request).read(leases.get, lease_id)
    sessions = await _store(request).read(leases.held, lease_id)
    options = checked(SampleOptions, lease.options)
    headers = {LEASE_HEADER: lease.id, EXPIRES_HEADER: repr(lease.expires_at)}
    return SampleAnswer(_store(request), sessions, options, format_).stream({"lease": asdict(lease)}, headers)


@router.post("/{lease_id}/ack")
@allow(Access.TRAINER)
@described(LeaseRecord, (400, 404, 409, *TAPE))
async def ack_lease(request: Request, lease_id: str, given: Named | None = None) -> Response:
    """The consumer is done: these are never handed out again."""
    sessions = None if given is None else given.sessions
    return json_answer(await _store(request).write(leases.ack, lease_id, sessions, time.time()))


@router.post("/{lease_id}/release")
@allow(Access.TRAINER)
@described(LeaseRecord, (400, 404, 409, *TAPE))
async def release_lease(request: Request, lease_id: str, given: Named | None = None) -> Response:
    """The consumer gives them back."""
    sessions = None if given is None else given.sessions
    return json_answer(await _store(request).write(leases.release, lease_id, sessions, time.time()))


@router.post("/{lease_id}/extend")
@allow(Access.TRAINER)
@described(LeaseRecord, (400, 404, 409, *TAPE))
async def extend_lease(request: Request, lease_id: str, given: Extension) -> Response:
    """More time."""
    return json_answer(await _store(request).write(leases.extend, lease_id, given.expires_in, time.time()))


def _store(request: Request) -> Store:
    return service_of(request).turns.store
