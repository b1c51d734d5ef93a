"""The answers of trainers' routes."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
from starlette.responses import Response, StreamingResponse

from tickertape.server.errors import InvalidRequest
from tickertape.server.store.rollouts import Sized, chunks, read
from tickertape.server.store.store import Store
from tickertape.server.trajectories.columns import batch
from tickertape.server.trajectories.formats import MEDIA_TYPES, Format, write_samples
from tickertape.server.trajectories.options import SampleOptions


def json_answer(value: Any, status: int = 200) -> Response:
    """Dataclasses and numpy arrays included; NaN is null."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """Samples of some sessions, in any format."""

    store: Store
    sessions: Sequence[Sized]
    options: SampleOptions
    format: Format

    def stream(self, head: dict[str, Any], headers: dict[str, str]) -> Response:
        """Sends them part by part: memory holds a part of the sessions at a time.

        Args:
            head: what JSON says beside the samples.
            headers: what every format's answer says.
        """
        written = write_samples(self.format, self._batches(), head)
        return StreamingResponse(written, media_type=MEDIA_TYPES[self.format], headers=headers)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for session_ids in chunks(self.sessions):
            yield batch(self.store.read_now(read, session_ids), self.options)


def write_cursor(created_at: float, session_id: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([created_at, session_id])).decode()


def read_cursor(cursor: str | None) -> tuple[float, str] | None:
    """
    Raises:
        InvalidRequest: it is none that :func:`write_cursor` has written.
    """
    if cursor is None:
        return None
    try:
        created_at, session_id = orjson.loads(base64.urlsafe_b64decode(cursor))
        return float(created_at), str(session_id)
    except (binascii.Error, orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise InvalidRequest("after is not a cursor: send the 'next' of an earlier answer", param="after") from error
