"""API keys, for operators."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tickertape.server.auth.access import Access, Role, allow
from tickertape.server.auth.keyring import NewKey
from tickertape.server.calls.service import service_of
from tickertape.server.routes import shapes
from tickertape.server.routes.answers import json_answer
from tickertape.server.routes.described import TAPE, described
from tickertape.server.store.keys import KeyRecord, list_keys

router = APIRouter(prefix="/admin/keys", tags=["operators"])


class WantedKey(BaseModel):
    """A key to be."""

    model_config = ConfigDict(extra="forbid")

    role: Role
    name: Annotated[str, Field(min_length=1, max_length=200)]
    """For whom or what it is; shown in lists."""
    expires_in: Annotated[float, Field(gt=0, le=10 * 366 * 86400)] | None = None
    """Seconds; null: until it is revoked."""


@router.post("")
@allow(Access.ADMIN)
@described(NewKey, (400, *TAPE), 201)
async def create_key(request: Request, given: WantedKey) -> Response:
    """Makes a key. This answer is the only place where it is ever shown: the tape has its hash."""
    made = await service_of(request).keyring.make(given.role, given.name, given.expires_in)
    return json_answer(made, status=201)


@router.get("")
@allow(Access.ADMIN)
@described(shapes.Keys, TAPE)
async def get_keys(request: Request) -> Response:
    """Every key that was ever made on this tape; those of the settings are not among them."""
    return json_answer({"keys": await service_of(request).turns.store.read(list_keys)})


@router.delete("/{key_id}")
@allow(Access.ADMIN)
@described(KeyRecord, (404, *TAPE))
async def revoke_key(request: Request, key_id: str) -> Response:
    """Ends a key: here at once, on other replicas within two seconds."""
    return json_answer(await service_of(request).keyring.revoke(key_id))
