"""The policy: its version, and the pauses in which a trainer updates it: for all servers of the tape."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.policy.gate import Pausing, PolicyGate
from tickertape.server.routes import shapes
from tickertape.server.routes.answers import json_answer
from tickertape.server.routes.described import described

router = APIRouter(prefix="/admin/policy", tags=["operators"])

_Version = Annotated[str, Field(min_length=1, max_length=200)]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GivenVersion(_Given):
    """The weights' version from now on."""

    version: _Version


class Pause(_Given):
    """The way to pause."""

    mode: Pausing = Pausing.ABORT
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Seconds to wait for generations that must end by themselves."""


class Resume(_Given):
    """The way to resume."""

    version: _Version | None = None
    """Of the weights from now on; ``None``: as before."""


@router.get("")
@allow(Access.ADMIN)
@described(shapes.PolicyShown)
async def get_policy(request: Request) -> Response:
    """The version, and whether it is paused."""
    return json_answer(_shown(_policy(request)))


@router.post("")
@allow(Access.ADMIN)
@described(shapes.PolicyShown, (400, 500))
async def set_policy(request: Request, given: GivenVersion) -> Response:
    """Sets the version without a pause: for weights that were updated while engines sampled on."""
    await service_of(request).shared_policy.set_version(given.version)
    return json_answer(_shown(_policy(request)))


@router.post("/pause")
@allow(Access.ADMIN)
@described(shapes.PolicyChanged, (400, 409, 500))
async def pause(request: Request, given: Pause | None = None) -> Response:
    """Returns when no engine samples for this proxy any more: weights may be updated. 409 if something still runs."""
    given = given or Pause()
    told = await service_of(request).shared_policy.pause(given.mode, given.timeout)
    return json_answer({**_shown(_policy(request)), "engines": told})


@router.post("/resume")
@allow(Access.ADMIN)
@described(shapes.PolicyChanged, (400, 500))
async def resume(request: Request, given: Resume | None = None) -> Response:
    """Goes on, generations that were broken off first."""
    told = await service_of(request).shared_policy.resume((given or Resume()).version)
    return json_answer({**_shown(_policy(request)), "engines": told})


def _policy(request: Request) -> PolicyGate:
    return service_of(request).turns.policy


def _shown(policy: PolicyGate) -> dict[str, object]:
    return {
        "version": policy.version,
        "paused": policy.paused,
        "paused_at": policy.paused_at,
        "running": policy.running,
        "waiting": len(policy.runs) - policy.running,
    }
