"""The side file: turns that the tape could not take, on another file until the next start.

NDJSON, a turn in each line: the columns of its row, its tools and its token arrays, bytes in base64. A file for each
process that needed one, next to an SQLite tape, in the current directory for PostgreSQL.
"""

import base64
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson

from tickertape.server.store.arrays import to_rows
from tickertape.server.store.rows import from_row, to_row
from tickertape.server.trajectories.turn import Turn

_SUFFIX, _CLAIMED, _BROKEN = ".unwritten.ndjson", ".claimed", ".broken"


@dataclass(frozen=True, slots=True)
class Write:
    """A turn that is to be committed."""

    turn: Turn
    options_digest: str = ""


class BrokenLine(ValueError):
    """A line of a side file that holds no turn."""


class SideFile:
    """What this process puts aside, and what earlier ones have.

    Args:
        base: the path that its name begins with.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self.path = base.with_name(f"{base.name}.{int(time.time())}-{os.getpid()}{_SUFFIX}")

    def add(self, writes: Sequence[Write]) -> None:
        """Appends turns; they are on the disk when this returns.

        Raises:
            OSError: they could not be written.
        """
        with self.path.open("ab") as file:
            file.write(b"".join(_line(write) for write in writes))
            file.flush()
            os.fsync(file.fileno())

    def claim(self) -> list[Path]:
        """Files of other processes, oldest first. They get another name, so that nobody else reads or adds to them.

        Raises:
            OSError: one cannot be renamed.
        """
        found = self._base.parent.glob(f"{self._base.name}.*{_SUFFIX}*")
        left = [path for path in found if path != self.path and path.suffix != _BROKEN]
        return sorted(path if path.suffix == _CLAIMED else path.rename(f"{path}{_CLAIMED}") for path in left)


def keep_broken(path: Path) -> Path:
    """Puts away a file that was claimed and not wholly read; where it is then."""
    return path.rename(path.with_suffix(_BROKEN))


def read_lines(path: Path) -> Iterator[Write | BrokenLine]:
    """The turns of a side file, in order; what cannot be read is named in their place.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _read(line)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                yield BrokenLine(f"{path}, line {number}: {type(error).__name__}: {error}")


def _line(write: Write) -> bytes:
    arrays = [_packed(row) for row in to_rows(write.turn)]
    row = _packed(to_row(write.turn, write.options_digest))
    return orjson.dumps({"row": row, "tools": write.turn.tools, "arrays": arrays}) + b"\n"


def _read(line: bytes) -> Write:
    given = orjson.loads(line)
    row = _unpacked(given["row"])
    tools = None if given["tools"] is None else orjson.dumps(given["tools"])
    turn = from_row(SimpleNamespace(**row), tools)
    for packed in given["arrays"]:
        array = _unpacked(packed)
        turn.token_arrays[array["name"]] = np.frombuffer(array["data"], array["dtype"]).reshape(array["shape"])
    return Write(turn, row["options_digest"])


def _packed(row: dict[str, Any]) -> dict[str, Any]:
    """Bytes as ``{"base64": …}``."""
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in row.items()
    }


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) and "base64" in value else value
        for name, value in row.items()
    }
