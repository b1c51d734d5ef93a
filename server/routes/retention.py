"""Retention, on demand."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.routes.answers import json_answer
from tickertape.server.routes.described import TAPE, described
from tickertape.server.store.retention import Limits
from tickertape.server.store.retention_cycle import Kept, keep_within

router = APIRouter(tags=["retention"])

_Amount = Annotated[int, Field(ge=0)] | None
_Seconds = Annotated[float, Field(ge=0)] | None


class RetentionRequest(BaseModel):
    """Limits of what may stay."""

    model_config = ConfigDict(extra="forbid")

    keep_seconds: _Seconds = None
    max_tokens: _Amount = None
    max_bytes: _Amount = None
    finish_idle_seconds: _Seconds = None
    """First finishes sessions whose last call came in longer ago."""
    dry_run: bool = False
    """Only says what would go."""


@router.post("/retention")
@allow(Access.ADMIN)
@described(Kept, (400, *TAPE))
async def apply_retention(request: Request, given: RetentionRequest) -> Response:
    """Drops what is over the limits, except what is open or leased; the report counts both."""
    limits = Limits(given.keep_seconds, given.max_tokens, given.max_bytes)
    keeper = service_of(request).keeper
    kept = await keep_within(keeper, limits, idle_seconds=given.finish_idle_seconds, dry_run=given.dry_run)
    return json_answer(kept)
