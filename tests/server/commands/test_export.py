"""``tickertape export``: what is written is what the API says; runs that broke off are gone on with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.command_line import tickertape
from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tests.server.tapes import written_tape
from tickertape.clients.samples import samples_of
from tickertape.server.commands.sample_files import STATE_FILE, Exported, ExportError, export, open_source

NAMES = [f"s{number}" for number in range(7)]
#: Of a session: three turns of 4 + 4 tokens.
TOKENS = 24
END = 151645


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return written_tape(tmp_path / "tape.db", NAMES, turns=3)


@pytest.fixture
def proxy(tape: Path) -> Iterator[Proxy]:
    with scripted(ScriptedEngine(lambda _ids, _sampling: [9707, END]), tape.parent) as proxy:
        yield proxy


def run(source: str, target: Path, *, part_tokens: int = 2 * TOKENS, **wanted: Any) -> Exported:
    opened = open_source(source, wanted)  # type: ignore[arg-type]
    try:
        return export(
            opened, target, said=wanted, part_tokens=part_tokens, page_tokens=TOKENS, progress=lambda *_: None
        )
    finally:
        opened.close()


def test_parts_are_read_by_polars_and_duckdb_and_say_what_the_api_says(
    proxy: Proxy, tape: Path, tmp_path: Path
) -> None:
    proxy.tape.reward("s1", 0.5)
    folder = tmp_path / "parts"
    done = run(str(tape), folder)
    assert (done.samples, done.tokens, len(done.files)) == (7, 7 * TOKENS, 4)
    expected = list(proxy.tape.finished_samples())
    frame = polars.read_parquet(folder / "*.parquet")
    rows = duckdb.sql(f"SELECT session_id, token_ids, loss_mask, reward, len(token_ids) FROM '{folder}/*.parquet'"
                      " ORDER BY session_id").fetchall()  # fmt: skip
    assert len(frame) == len(rows) == 7
    for sample, line, row in zip(expected, frame.iter_rows(named=True), rows, strict=True):
        assert line["session_id"] == row[0] == sample.session_id
        assert line["token_ids"] == row[1] == sample.token_ids.tolist()
        assert line["loss_mask"] == row[2] == sample.loss_mask.tolist()
        assert line["reward"] == row[3] == sample.reward
        assert row[4] == TOKENS
        assert np.array_equal(np.array(line["logprobs"], np.float32), sample.logprobs, equal_nan=True)
        assert [(run["version"], run["n_tokens"]) for run in line["versions"]] == sample.versions
        assert line["message_spans"] == sample.message_spans
        assert orjson.loads(line["metadata"]) == sample.metadata


def test_server_and_tape_give_the_same_parts(proxy: Proxy, tape: Path, tmp_path: Path) -> None:
    by_url, by_file = run(proxy.url, tmp_path / "url"), run(str(tape), tmp_path / "file")
    assert [path.name for path in by_url.files] == [path.name for path in by_file.files]
    for left, right in zip(by_url.files, by_file.files, strict=True):
        assert left.read_bytes() == right.read_bytes()


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.ndjson", "out.json"])
def test_one_file_of_any_format(tape: Path, tmp_path: Path, name: str) -> None:
    (path,) = run(str(tape), tmp_path / name).files
    if name == "out.parquet":
        ids = pq.read_table(path)["session_id"].to_pylist()
    elif name == "out.arrow":
        with pa.ipc.open_stream(path) as reader:
            ids = [sample.session_id for part in reader for sample in samples_of(part)]
    else:
        lines = path.read_bytes().splitlines() if name == "out.ndjson" else []
        samples = [orjson.loads(line) for line in lines] or orjson.loads(path.read_bytes())["samples"]
        ids = [sample["session_id"] for sample in samples]
    assert sorted(ids) == NAMES
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted([name, "tape.db"]), "no leavings"


def test_folder_goes_on_where_it_broke_off(tape: Path, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "broken"
    run(str(tape), whole)
    opened = open_source(str(tape), {})

    def breaks(samples: int, *_: int) -> None:
        if samples == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(opened, folder, said={}, part_tokens=2 * TOKENS, page_tokens=TOKENS, progress=breaks)
    opened.close()
    state = orjson.loads((folder / STATE_FILE).read_bytes())
    assert (state["parts"], state["samples"]) == (2, 4)
    # A part that was moved into place just before its state would have been written is written again.
    (folder / "part-00002.parquet").write_bytes(b"half of it")
    again = run(str(tape), folder)
    assert (again.samples, [path.name for path in again.files]) == (3, ["part-00002.parquet", "part-00003.parquet"])
    for path in whole.glob("*.parquet"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert run(str(tape), folder).files == []


def test_sessions_finished_since_are_added(proxy: Proxy, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    run(proxy.url, folder)
    proxy.chat("new", [{"role": "user", "content": "Hello"}])
    assert run(proxy.url, folder).open_sessions == 1
    proxy.tape.finish("new")
    done = run(proxy.url, folder)
    assert (done.samples, done.open_sessions) == (1, 0)
    assert pq.read_table(done.files[0])["session_id"].to_pylist() == ["new"]


def test_folder_begun_with_something_else_is_refused(tape: Path, tmp_path: Path) -> None:
    run(str(tape), tmp_path / "parts")
    with pytest.raises(ExportError, match=r'was begun with \{\}, now it is \{"per_turn":true\}: take another folder'):
        run(str(tape), tmp_path / "parts", per_turn=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.parquet").write_bytes(b"")
    with pytest.raises(ExportError, match="that no export has written"):
        run(str(tape), tmp_path / "other")


def test_command_filters_makes_samples_as_asked_and_tells_of_open_sessions(proxy: Proxy, tmp_path: Path) -> None:
    proxy.tape.create_session("mine", group_id="g", metadata={"seed": 1})
    proxy.chat("mine", [{"role": "user", "content": "Hello"}])
    proxy.tape.finish("mine")
    proxy.tape.create_session("open", group_id="g")
    target = tmp_path / "out.ndjson"
    done = tickertape("export", proxy.url, str(target), "--where", "group_id=g", "--where", "metadata.seed=1",
                      "--per-turn")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "1 sample," in done.stderr
    assert [orjson.loads(line)["session_id"] for line in target.read_bytes().splitlines()] == ["mine"]
    every = tickertape("export", proxy.url, str(tmp_path / "parts"))
    assert "8 samples" in every.stderr
    assert "1 sessions are still open" in every.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.db", "out"], "nowhere.db is no tape file: give one, or the URL"),
        (["http://127.0.0.1:1", "out"], "GET http://127.0.0.1:1/samples/summary?after=0: no server answers there"),
        (["TAPE", "out.csv"], "must end with one of .parquet"),
        (["TAPE", "out", "--where", "grup=g"], "there is no 'grup'; there are: state"),
        (["TAPE", "out", "--where", "grup"], "it must be NAME=VALUE"),
        (["TAPE", "out", "--outcomes", "fell"], "Input should be 'stop'"),
    ],
)
def test_command_says_what_is_wrong(tape: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    source, target, *rest = arguments
    done = tickertape("export", str(tape) if source == "TAPE" else source, str(tmp_path / target), *rest)
    assert done.exit_code == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
