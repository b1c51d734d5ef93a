"""Token arrays: written with their turn, described with its JSON, read piece by piece."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from tickertape.server.errors import NotFound
from tickertape.server.store import schema
from tickertape.server.store.database import StoreError
from tickertape.server.trajectories.turn import Turn


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """The facts about an array, without its data."""

    dtype: str
    """numpy's spelling, such as ``<i2``."""
    shape: list[int]

    @property
    def header(self) -> bytes:
        """Returns what stands before the data in a ``.npy`` file (version 1.0)."""
        written = io.BytesIO()
        described = {"descr": self.dtype, "fortran_order": False, "shape": tuple(self.shape)}
        np.lib.format.write_array_header_1_0(written, described)
        return written.getvalue()

    @property
    def n_bytes(self) -> int:
        """Of the data."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def to_rows(turn: Turn) -> Iterator[dict[str, Any]]:
    """The columns of ``token_arrays`` for each of a turn's arrays.

    Raises:
        StoreError: one holds something else than numbers.
    """
    for name, array in turn.token_arrays.items():
        if array.dtype.kind not in "biuf":
            raise StoreError(f"{name} of turn {turn.id} holds {array.dtype}, which is not kept")
        dtype = array.dtype.newbyteorder("<")
        yield {
            "turn_id": turn.id,
            "name": name,
            "session_id": turn.session_id,
            "dtype": dtype.str,
            "shape": list(array.shape),
            "data": array.astype(dtype, copy=False).tobytes("C"),
        }


def described(connection: sa.Connection, session_id: str) -> dict[str, dict[str, ArrayFacts]]:
    """The arrays of a session's turns, by turn id and name; turns without any are left out."""
    table = schema.token_arrays.c
    query = (
        sa.select(table.turn_id, table.name, table.dtype, table.shape)
        .where(table.session_id == session_id)
        .order_by(table.turn_id, table.name)
    )
    found: dict[str, dict[str, ArrayFacts]] = {}
    for turn_id, name, dtype, shape in connection.execute(query):
        found.setdefault(turn_id, {})[name] = ArrayFacts(dtype, shape)
    return found


def find(connection: sa.Connection, session_id: str, turn_id: str, name: str) -> ArrayFacts:
    """One array.

    Raises:
        NotFound: there is none; the text says what there is.
    """
    of_turn = described(connection, session_id).get(turn_id, {})
    if name not in of_turn:
        there = f"there is: {', '.join(of_turn)}" if of_turn else "it has none, or there is no such turn"
        raise NotFound(
            f"turn {turn_id!r} of session {session_id!r} has no array {name!r}; {there}",
            param="name",
            code="array_not_found",
        )
    return of_turn[name]


def piece(connection: sa.Connection, turn_id: str, name: str, start: int, size: int) -> bytes:
    """``size`` bytes of an array's data from ``start`` on, or what is left of them.

    Raises:
        StoreError: it is not there any more.
    """
    table = schema.token_arrays.c
    part = sa.func.substr(table.data, start + 1, size)
    row = connection.execute(sa.select(part).where(table.turn_id == turn_id, table.name == name)).one_or_none()
    if row is None:
        raise StoreError(f"{name} of turn {turn_id} was deleted while it was read")
    return bytes(row[0] or b"")  # SQLite cuts nothing out of nothing as null
