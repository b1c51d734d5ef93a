"""One interface to both databases: the same values are held, found and refused; passwords are nowhere to be seen."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests.engines import ScriptedEngine
from tests.server.conftest import scripted
from tests.server.store.test_store import turn
from tests.server.tapes import written_tape
from tickertape.clients import TrajectoryError
from tickertape.server.commands.export import run_export
from tickertape.server.commands.sample_files import ExportError, open_source, source_name
from tickertape.server.errors import InvalidRequest
from tickertape.server.store import arrays, rollouts, schema, sessions
from tickertape.server.store.database import Database
from tickertape.server.store.filters import Scalar, SessionFilter
from tickertape.server.store.store import Store, StoreError
from tickertape.server.trajectories.options import SampleOptions


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    store = Store(place)
    yield store
    store.close()


VALUES: list[Scalar] = [7, 7.5, "7", "", True, False, None, "null", 0, 1, 2**53 + 1, -0.25, "ünï\n\"'\\"]


async def test_metadata_is_found_by_value_and_type(store: Store) -> None:
    for number, value in enumerate(VALUES):
        await store.write(sessions.create, f"s{number}", 1.0, {"metadata": {"it's": value, "list": [value]}})
    await store.write(sessions.create, "without", 1.0, {"metadata": {"other": {"it's": 7}}})
    for number, value in enumerate(VALUES):
        found = await store.read(sessions.page, SessionFilter(metadata={"it's": value}))
        expected = {f"s{number}"} | ({"without"} if value is None else set())
        assert {record.id for record in found} == expected, value
        assert found[0].metadata == {"it's": value, "list": [value]}
    assert [record.id for record in await store.read(sessions.page, SessionFilter(metadata={"it's": 7.0}))] == ["s0"]
    assert await store.read(sessions.page, SessionFilter(metadata={"list": 7})) == []


async def test_what_no_column_can_hold_is_the_clients_to_mend(place: str, store: Store) -> None:
    bad: list[dict[str, object]] = [{"metadata": {"a": 2**64}}, {"metadata": {"a": "\ud800"}}, {"task_id": "\ud800"}]
    if place.startswith("postgresql"):
        bad += [{"metadata": {"a": "\0"}}, {"task_id": "a\0b"}]
    for fields in bad:
        with pytest.raises(InvalidRequest, match="integers have 64 bits") as refused:
            await store.write(sessions.create, "s", 1.0, fields)
        assert refused.value.code == "invalid_value"
    with pytest.raises(InvalidRequest):
        await store.read(sessions.page, SessionFilter(task_id="\ud800"))
    with pytest.raises(InvalidRequest):
        await store.read(sessions.page, SessionFilter(metadata={"a": 2**64}))
    with pytest.raises(TypeError):  # a mistake of ours is not the client's
        await store.read(sessions.page, SessionFilter(), 7)  # type: ignore[call-arg]
    assert await store.read(sessions.page) == []


async def test_turn_is_not_lost_for_the_words_of_its_client_engine_or_error(store: Store) -> None:
    await store.commit(
        turn(0, model="m\0" * 9, error="NUL \0, half a pair \ud83d", finish_reason="why? " * 99, engine="é")
    )
    (found,) = await store.turns("s") or []
    assert (found.model, found.error) == ("m\\x00" * 9, "NUL \\x00, half a pair \\ud83d")
    assert (found.finish_reason, found.engine) == ("why? " * 99, "é")


async def test_counts_pass_32_bits(store: Store) -> None:
    big = 3 * 2**31
    row = {"id": "s", "created_at": 1.0, "state": "finished", "finish_number": big, "samples": 2, "sample_tokens": big}
    sizes = {"sampled_tokens": big, "per_turn_tokens": big, "stored_bytes": big, "freshest": big, "sampled_turns": 2}
    await store.write(lambda connection: connection.execute(schema.sessions.insert().values(**row, **sizes)))
    totals = await store.read(rollouts.totals, SessionFilter())
    assert (totals.sample_tokens, type(totals.sample_tokens)) == (big, int)
    chosen = await store.read(
        rollouts.select, SessionFilter(), SampleOptions(min_version=big, max_length=2**30), after=big - 1,
        max_samples=9, max_tokens=big,
    )  # fmt: skip
    assert [(each.number, each.tokens) for each in chosen.sessions] == [(big, 2**31)]


async def test_arrays_are_read_piece_by_piece(store: Store) -> None:
    data = np.arange(1000, dtype="<i2").reshape(500, 2)
    await store.commit(turn(0, token_arrays={"routed_experts": data, "nothing": np.zeros((0, 2), "<i4")}))
    pieces = [await store.read(arrays.piece, "s-0", "routed_experts", start, 700) for start in range(0, 2000, 700)]
    assert b"".join(pieces) == data.tobytes()
    assert await store.read(arrays.piece, "s-0", "nothing", 0, 700) == b""


def test_server_on_postgresql_says_where_its_tape_is_but_not_the_password(
    postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = postgres_url.replace("postgres@", "postgres:s3cret@")
    written_tape(secret, ["a", "b"])
    with (
        caplog.at_level(logging.INFO),
        scripted(ScriptedEngine(lambda _ids, _sampling: [1]), tmp_path, db=secret) as proxy,
    ):
        answer = proxy.chat("s", [{"role": "user", "content": "Hello"}])
        assert answer.status_code == 200
        assert [each.seq for each in proxy.tape.turns("s")] == [0]
        with pytest.raises(TrajectoryError, match="nobody"):
            proxy.tape.get_session("nobody")
    assert "s3cret" not in caplog.text
    store = Store(secret)
    assert store.path.startswith("postgresql://postgres:***@/")
    store.close()


def test_tape_on_postgresql_is_exported_and_its_password_is_kept_nowhere(postgres_url: str, tmp_path: Path) -> None:
    secret = postgres_url.replace("postgres@", "postgres:s3cret@")
    with pytest.raises(StoreError, match="no tape"):
        open_source(secret, {})
    written_tape(secret, ["a", "b"])
    done = run_export(secret, tmp_path / "samples", [], {}, part_tokens=1000)
    assert done.samples == 2
    assert not any(b"s3cret" in path.read_bytes() for path in (tmp_path / "samples").iterdir())
    assert run_export(secret, tmp_path / "samples", [], {}, part_tokens=1000).samples == 0, "it goes on where it was"
    with pytest.raises(ExportError, match="no tape file"):
        open_source(str(tmp_path / "none.db"), {})


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("postgresql://user:s3cret@127.0.0.1:1/tape?connect_timeout=2", "refused"),
        ("postgres://user@127.0.0.1:1/tape?password=s3cret", "refused"),
        ("postgresql://user:s3cret@host:port/tape", "no URL that can be read"),
        ("mysql://user:s3cret@host/tape", "not mysql://"),
        ("sqlite://s3cret/tape.db", "sqlite:/// and a path"),
    ],
)
def test_tape_that_cannot_be_opened_is_named_without_its_password(place: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        Store(place)
    seen: BaseException | None = refused.value
    while seen is not None:
        assert "s3cret" not in str(seen)
        seen = seen.__cause__


def test_name_of_a_source_has_no_password() -> None:
    assert source_name("postgres://u:p@h/d?sslpassword=q&sslmode=require") == (
        "postgresql://u:***@h/d?sslmode=require&sslpassword=***"
    )
    assert source_name("tape.db") == "tape.db"


def test_missing_driver_is_named_with_the_extra_that_brings_it() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from tickertape.server.store.store import Store, StoreError\n"
        "try: Store('postgresql://h/d')\n"
        "except StoreError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert "a tape on PostgreSQL needs packages that are not installed: pip install 'psycopg" in said.stdout


def test_reading_sees_one_state_and_writes_nothing(place: str) -> None:
    written_tape(place, ["a"])
    database = Database(place)
    count = sa.select(sa.func.count()).select_from(schema.sessions)
    with database.reading() as connection:
        assert connection.scalar(count) == 1
        written_tape(place, ["b"])
        assert connection.scalar(count) == 1, "what was committed since is not seen"
    database.close()
