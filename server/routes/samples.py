"""Samples: of one session, and a cursor over those of finished ones."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.routes import shapes
from tickertape.server.routes.answers import SampleAnswer, json_answer
from tickertape.server.routes.described import FILES, SAMPLING, TAPE, described
from tickertape.server.routes.queries import Shape, read_query
from tickertape.server.store import rollouts, sessions
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.rollouts import Totals
from tickertape.server.trajectories.formats import wanted_format
from tickertape.server.trajectories.options import SampleOptions
from tickertape.server.trajectories.paths import plan

router = APIRouter(tags=["samples"])

NEXT_HEADER = "X-Tickertape-Next"
MORE_HEADER = "X-Tickertape-More"


@dataclass(frozen=True, slots=True)
class Page:
    after: Annotated[int, Field(ge=0)] = 0
    """A cursor: ``next`` of an earlier answer."""
    limit: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Samples; sessions are not divided, so a page of one session may have more."""
    max_tokens: Annotated[int, Field(ge=1)] = 8_000_000


@router.get("/sessions/{session_id}/samples")
@allow(Access.TRAINER)
@described(shapes.SessionSamples, SAMPLING, also=FILES, query=(SampleOptions, Shape))
async def get_samples(request: Request, session_id: str) -> Response:
    """A session's samples, finished or not: each sampled token that is trained at all is trained exactly once. JSON
    also has its statistics, and the turns that the options leave out."""
    options, shape = read_query(request, SampleOptions, Shape)
    format_ = wanted_format(shape.format, request.headers.get("Accept"))
    store = service_of(request).turns.store
    record, left_out = await store.read(_described, session_id, options)
    head = {"session_id": session_id, "statistics": record.statistics, "left_out": left_out}
    sized = rollouts.Sized(session_id, 0, 0, 0)
    return SampleAnswer(store, [sized], options, format_).stream(head, {})


@router.get("/samples")
@allow(Access.TRAINER)
@described(shapes.SamplePage, (400, 406, *TAPE), also=FILES, query=(SessionFilter, SampleOptions, Page, Shape))
async def list_samples(request: Request) -> Response:
    """Samples of finished sessions in the order of finishing. ``next`` (in the body of JSON and in the header
    ``X-Tickertape-Next``) is the ``after`` of the next page, now or when more sessions are finished; ``more`` says
    whether there were more already."""
    wanted, options, page, shape = read_query(request, SessionFilter, SampleOptions, Page, Shape)
    format_ = wanted_format(shape.format, request.headers.get("Accept"))
    store = service_of(request).turns.store
    chosen = await store.read(
        rollouts.select, wanted, options, after=page.after, max_samples=page.limit, max_tokens=page.max_tokens
    )
    last = chosen.sessions[-1].number if chosen.sessions else page.after
    headers = {NEXT_HEADER: str(last), MORE_HEADER: str(chosen.more).lower()}
    answer = SampleAnswer(store, chosen.sessions, options, format_)
    return answer.stream({"next": str(last), "more": chosen.more}, headers)


@dataclass(frozen=True, slots=True)
class After:
    after: Annotated[int, Field(ge=0)] = 0


@router.get("/samples/summary")
@allow(Access.TRAINER)
@described(Totals, (400, *TAPE), query=(SessionFilter, After))
async def summarise_samples(request: Request) -> Response:
    """Sums up finished sessions, and what the same turns would be as samples of one turn each."""
    wanted, place = read_query(request, SessionFilter, After)
    return json_answer(await service_of(request).turns.store.read(rollouts.totals, wanted, place.after))


def _described(
    connection: Any, session_id: str, options: SampleOptions
) -> tuple[sessions.SessionRecord, dict[str, str]]:
    record = sessions.get(connection, session_id)
    left_out = plan(rollouts.shapes(connection, session_id), options).left_out
    return record, {turn_id: str(reason) for turn_id, reason in left_out.items()}
