"""``tickertape export``: samples of finished sessions to a file, or to a folder of Parquet parts.

The source is a running server's URL or a tape file. A folder can be continued, and keeps its place in a small state
file: a part is written under another name, moved to its own, and only then is the place advanced. What broke off is
written again by the next run, under the same name, and nothing twice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import orjson
import pyarrow as pa

from tickertape.clients import tape
from tickertape.clients.calls import SamplePage, SampleQuery, Summary
from tickertape.clients.trajectories import TrajectoryClient
from tickertape.server.routes.queries import checked
from tickertape.server.store import rollouts, sessions
from tickertape.server.store.database import address, is_postgres, shown
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.store import Store, turns_of
from tickertape.server.trajectories.columns import SCHEMA, batch
from tickertape.server.trajectories.formats import Format, parquet_writer, write_samples
from tickertape.server.trajectories.options import SampleOptions
from tickertape.server.trajectories.turn import Turn

STATE_FILE = ".tickertape-export.json"
#: By the end of a file's name.
FORMATS = {".parquet": Format.PARQUET, ".arrow": Format.ARROW, ".arrows": Format.ARROW, ".ndjson": Format.NDJSON,
           ".jsonl": Format.NDJSON, ".json": Format.JSON}  # fmt: skip
_START = "0"
#: Samples that are read at once; tokens usually end a page before.
_MOST_SAMPLES = 20_000


class ExportError(ValueError):
    """The export cannot begin or go on; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The files and counts that one run has written."""

    samples: int = 0
    tokens: int = 0
    files: list[Path] = field(default_factory=list)
    open_sessions: int = 0
    """Sessions that are not finished, and so not exported."""
    has_samples: bool = False
    """True if there are samples in the target now, from this run or an earlier one."""


#: Of one session, complete, in order of ``seq``: by the server's JSON or from the tape file itself.
Turns: TypeAlias = Sequence[tape.Turn] | Sequence[Turn]

#: Hears of samples and tokens as they are written, and how many samples there are in all.
Progress = Callable[[int, int, int], None]


class Source(Protocol):
    """A place that samples come from."""

    def summary(self, after: str) -> Summary:
        """Returns the totals of what there is after a place."""

    def pages(self, after: str, max_tokens: int) -> Iterator[SamplePage]:
        """Samples from a place on."""

    def sessions(self, named: Sequence[str]) -> Iterator[tuple[str, Turns]]:
        """Complete sessions in any state: those named, or those of the filter in order of creation.

        Raises:
            ExportError, TrajectoryError: one that is named is not there.
        """

    def close(self) -> None:
        """Lets go of it."""


class ServerSource:
    """A running server."""

    def __init__(self, url: str, wanted: SampleQuery, api_key: str | None) -> None:
        self._client = TrajectoryClient(url, timeout=300, api_key=api_key)
        self._wanted = wanted
        names = SessionFilter.__dataclass_fields__
        self._filters: Any = {name: value for name, value in wanted.items() if name in names}

    def summary(self, after: str) -> Summary:
        return self._client.summary(after=after, **self._filters)

    def pages(self, after: str, max_tokens: int) -> Iterator[SamplePage]:
        return self._client.sample_pages(after=after, limit=_MOST_SAMPLES, max_tokens=max_tokens, **self._wanted)

    def sessions(self, named: Sequence[str]) -> Iterator[tuple[str, Turns]]:
        for session_id in named or (session.id for session in self._client.sessions(**self._filters)):
            yield session_id, self._client.turns(session_id)

    def close(self) -> None:
        self._client.close()


class TapeSource:
    """A tape itself, in a file or database; servers may be using it at the same time."""

    def __init__(self, place: str, wanted: SampleQuery) -> None:
        url = address(place)
        if url.drivername == "sqlite" and not Path(url.database or "").is_file():
            raise ExportError(f"{place} is no tape file: give one, or the URL of a running server or of a database")
        names = SessionFilter.__dataclass_fields__
        self._filter = checked(SessionFilter, {k: v for k, v in wanted.items() if k in names})
        self._options = checked(SampleOptions, {k: v for k, v in wanted.items() if k not in names})
        self._store = Store(place, make=False)

    def summary(self, after: str) -> Summary:
        return Summary(**asdict(self._store.read_now(rollouts.totals, self._filter, int(after))))

    def pages(self, after: str, max_tokens: int) -> Iterator[SamplePage]:
        more = True
        while more:
            chosen = self._store.read_now(
                rollouts.select,
                self._filter,
                self._options,
                after=int(after),
                max_samples=_MOST_SAMPLES,
                max_tokens=max_tokens,
            )
            if not chosen.sessions:
                return
            after, more = str(chosen.sessions[-1].number), chosen.more
            parts = rollouts.chunks(chosen.sessions)
            yield SamplePage(
                [batch(self._store.read_now(rollouts.read, ids), self._options) for ids in parts], after, more
            )

    def sessions(self, named: Sequence[str]) -> Iterator[tuple[str, Turns]]:
        for session_id in named or self._session_ids():
            turns = self._store.read_now(turns_of, session_id)
            if turns is None:
                raise ExportError(f"there is no session {session_id!r}")
            yield session_id, turns

    def _session_ids(self) -> Iterator[str]:
        after: tuple[float, str] | None = None
        while page := self._store.read_now(sessions.page, self._filter, after=after):
            yield from (record.id for record in page)
            after = page[-1].created_at, page[-1].id

    def close(self) -> None:
        self._store.close()


def source_name(source: str) -> str:
    """A URL or path as it may be shown and kept: without a database's password."""
    return shown(address(source)) if is_postgres(source) else source


def open_source(source: str, wanted: SampleQuery, api_key: str | None = None) -> Source:
    """The source of a URL or a path; ``api_key`` is a trainer's, for a server that asks for one.

    Raises:
        ExportError: there is no such file.
        InvalidRequest: ``wanted`` cannot be meant (for a URL, the server says so later).
        StoreError: the file is no tape.
    """
    if source.startswith(("http://", "https://")):
        return ServerSource(source, wanted, api_key)
    return TapeSource(source, wanted)


def export(
    source: Source, target: Path, *, said: dict[str, Any], part_tokens: int, page_tokens: int, progress: Progress
) -> Exported:
    """Writes all samples that there are.

    Args:
        source: where they come from.
        target: a file, whose name ends with a known format's, or a folder for Parquet parts, which is made if need be.
        said: what was asked for; a folder that was begun with something else is refused.
        part_tokens: tokens of a Parquet part, about.
        page_tokens: tokens that are read at once.
        progress: see :data:`Progress`.

    Raises:
        ExportError: the folder was begun with something else, or is no folder of an export.
        OSError: it cannot be written.
    """
    check_target(target)
    if target.suffix in FORMATS and not target.is_dir():
        return _to_file(source, target, FORMATS[target.suffix], page_tokens, progress)
    return _to_folder(source, target, said, part_tokens, page_tokens, progress)


def check_target(target: Path) -> None:
    """
    Raises:
        ExportError: nothing can be written there.
    """
    if target.is_dir():
        return
    if target.suffix and target.suffix not in FORMATS:
        raise ExportError(
            f"{target}: a file's name must end with one of {', '.join(FORMATS)}; a folder's has no ending"
        )
    folder = target.resolve().parent
    if target.suffix and not folder.is_dir():
        raise ExportError(f"{target}: there is no folder {folder}; make it first")


def _to_file(source: Source, target: Path, format_: Format, page_tokens: int, progress: Progress) -> Exported:
    totals = source.summary(_START)
    counted = _Counted(totals.samples, progress)
    partial = target.with_name(f".{target.name}.partial")
    batches = (counted.seen(part) for page in source.pages(_START, page_tokens) for part in page.batches)
    with partial.open("wb") as file:
        for written in write_samples(format_, batches, {}):
            file.write(written)
    if not counted.samples:
        partial.unlink()
        return Exported(open_sessions=totals.open_sessions)
    partial.replace(target)
    return Exported(counted.samples, counted.tokens, [target], totals.open_sessions, has_samples=True)


@dataclass(slots=True)
class State:
    """The progress of a folder."""

    said: dict[str, Any]
    next: str = _START
    parts: int = 0
    samples: int = 0
    tokens: int = 0

    @classmethod
    def read(cls, folder: Path, said: dict[str, Any]) -> Self:
        """
        Raises:
            ExportError: it was begun with something else, or the folder holds other files.
        """
        path = folder / STATE_FILE
        if not path.exists():
            if any(folder.glob("*.parquet")):
                raise ExportError(f"{folder} holds Parquet files that no export has written: take another folder")
            return cls(said)
        state = cls(**orjson.loads(path.read_bytes()))
        if state.said != said:
            raise ExportError(
                f"{folder} was begun with {orjson.dumps(state.said).decode()}, now it is "
                f"{orjson.dumps(said).decode()}: take another folder"
            )
        return state

    def write(self, folder: Path) -> None:
        partial = folder / f"{STATE_FILE}.partial"
        partial.write_bytes(orjson.dumps(asdict(self)))
        partial.replace(folder / STATE_FILE)


def _to_folder(
    source: Source, folder: Path, said: dict[str, Any], part_tokens: int, page_tokens: int, progress: Progress
) -> Exported:
    folder.mkdir(parents=True, exist_ok=True)
    state = State.read(folder, said)
    totals = source.summary(state.next)
    counted = _Counted(totals.samples, progress)
    files: list[Path] = []
    pages = source.pages(state.next, min(page_tokens, part_tokens))
    for page in pages:
        path = folder / f"part-{state.parts:05}.parquet"
        partial = folder / f".{path.name}.partial"
        before = counted.tokens
        with parquet_writer(partial) as writer:
            last = _write_page(writer, page, counted)
            while counted.tokens - before < part_tokens and last.more:
                last = _write_page(writer, next(pages), counted)
        partial.replace(path)
        files.append(path)
        state.next, state.parts = last.next, state.parts + 1
        state.samples, state.tokens = state.samples + counted.samples_since(), state.tokens + counted.tokens - before
        state.write(folder)
    return Exported(counted.samples, counted.tokens, files, totals.open_sessions, has_samples=state.samples > 0)


def _write_page(writer: Any, page: SamplePage, counted: "_Counted") -> SamplePage:
    table = pa.Table.from_batches([counted.seen(part) for part in page.batches], SCHEMA)
    if table.num_rows:
        writer.write_table(table)
    return page


class _Counted:
    """Counts what passes by."""

    def __init__(self, expected: int, progress: Progress) -> None:
        self.samples = self.tokens = self._told = 0
        self._expected = expected
        self._progress = progress

    def seen(self, part: pa.RecordBatch) -> pa.RecordBatch:
        self.samples += part.num_rows
        self.tokens += len(part.column("token_ids").values)
        self._progress(self.samples, self.tokens, self._expected)
        return part

    def samples_since(self) -> int:
        """Samples since this was asked last."""
        since, self._told = self.samples - self._told, self.samples
        return since
