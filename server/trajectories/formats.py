"""Samples as bytes: JSON, NDJSON, Arrow IPC stream, Parquet. All have ``trajectories.columns.SCHEMA``."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tickertape.clients.samples import samples_of
from tickertape.server.errors import InvalidRequest
from tickertape.server.trajectories.columns import SCHEMA


class Format(StrEnum):
    """The file format in which samples are written."""

    JSON = "json"
    """One object, whose ``samples`` is a list."""
    NDJSON = "ndjson"
    """A sample a line."""
    ARROW = "arrow"
    """Arrow's IPC stream."""
    PARQUET = "parquet"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.ARROW: "application/vnd.apache.arrow.stream",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_BY_MEDIA_TYPE = {media_type: format_ for format_, media_type in MEDIA_TYPES.items()} | {
    "*/*": Format.JSON,
    "application/*": Format.JSON,
    "application/jsonl": Format.NDJSON,
}
#: Levels of zstd above this one cost time and gain little on token ids.
_ZSTD_LEVEL = 1


class NotAcceptable(InvalidRequest):
    """None of the formats that the client accepts."""

    status = 406
    code = "not_acceptable"


def wanted_format(named: str | None, accept: str | None) -> Format:
    """The format that ``?format=`` names, else the first in the Accept header that there is, else JSON.

    Raises:
        InvalidRequest: it names another one.
    """
    known = ", ".join(f"{format_.value} ({media_type})" for format_, media_type in MEDIA_TYPES.items())
    if named is not None:
        if named not in set(Format):
            raise InvalidRequest(f"format {named!r}: there are {known}", param="format")
        return Format(named)
    accepted = [part.partition(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    for media_type in accepted:
        if media_type in _BY_MEDIA_TYPE:
            return _BY_MEDIA_TYPE[media_type]
    raise NotAcceptable(f"Accept: {accept}: samples come as {known}", param="Accept")


def write_samples(format_: Format, batches: Iterable[pa.RecordBatch], head: dict[str, Any]) -> Iterator[bytes]:
    """Samples as bytes, a part for each batch.

    Args:
        format_: as what.
        batches: of ``SCHEMA``.
        head: what a JSON object says beside its samples; the other formats leave it out.
    """
    if format_ is Format.JSON:
        return _json(batches, head)
    if format_ is Format.NDJSON:
        return (b"".join(line + b"\n" for line in _lines(batch)) for batch in batches)
    opened = pa.ipc.new_stream if format_ is Format.ARROW else parquet_writer
    return _streamed(opened, batches)


def parquet_writer(sink: Any, schema: pa.Schema = SCHEMA) -> pq.ParquetWriter:
    """A writer of samples: zstd, and no dictionaries where values hardly ever repeat."""
    repeating = ["task_id", "group_id", "policy_version", "session_id", "loss_mask.list.element"]
    repeating += ["outcomes.list.element", "message_spans.list.element.role", "message_spans.list.element.kind"]
    repeating += ["message_spans.list.element.turn_id", "versions.list.element.version", "metadata"]
    return pq.ParquetWriter(sink, schema, compression="zstd", compression_level=_ZSTD_LEVEL, use_dictionary=repeating)


def _lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    return (orjson.dumps(sample, option=orjson.OPT_SERIALIZE_NUMPY) for sample in samples_of(batch))


def _json(batches: Iterable[pa.RecordBatch], head: dict[str, Any]) -> Iterator[bytes]:
    opening = orjson.dumps(head)[:-1] + (b"," if head else b"") + b'"samples":['
    for batch in batches:
        if batch.num_rows:
            yield opening + b",".join(_lines(batch))
            opening = b","
    yield b"]}" if opening == b"," else opening + b"]}"


class _Pipe:
    """A file that is read as it is written."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        """Returns what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _streamed(opened: Callable[..., Any], batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    pipe = _Pipe()
    with opened(pa.PythonFile(pipe, mode="w"), SCHEMA) as writer:
        yield pipe.taken()
        for batch in batches:
            writer.write_batch(batch)
            yield pipe.taken()
    yield pipe.taken()
