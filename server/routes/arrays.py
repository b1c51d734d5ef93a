"""Per-token extras of a turn, such as routed experts, for trainers."""

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from tickertape.server.auth.access import Access, allow
from tickertape.server.calls.service import service_of
from tickertape.server.routes.described import BINARY, TAPE, described
from tickertape.server.store import arrays
from tickertape.server.store.arrays import ArrayFacts
from tickertape.server.store.store import Store

router = APIRouter(tags=["sessions"])

#: Bytes that are in memory at once.
PIECE = 4 * 2**20


@router.get("/sessions/{session_id}/turns/{turn_id}/arrays/{name}")
@allow(Access.TRAINER)
@described(errors=(404, *TAPE), also={"application/octet-stream": BINARY})
async def get_array(request: Request, session_id: str, turn_id: str, name: str) -> Response:
    """One array of a turn as a ``.npy`` file, sent in pieces. If the session is deleted meanwhile, the connection
    breaks before ``Content-Length`` is reached."""
    store = service_of(request).turns.store
    facts = await store.read(arrays.find, session_id, turn_id, name)
    headers = {"Content-Length": str(len(facts.header) + facts.n_bytes)}
    return StreamingResponse(_file(store, turn_id, name, facts), media_type="application/octet-stream", headers=headers)


def _file(store: Store, turn_id: str, name: str, facts: ArrayFacts) -> Iterator[bytes]:
    """Each piece in a transaction of its own: a slow reader must not hold the tape."""
    yield facts.header
    for start in range(0, facts.n_bytes, PIECE):
        yield store.read_now(arrays.piece, turn_id, name, start, PIECE)
