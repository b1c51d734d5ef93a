"""A tape of an older schema is led to this one, with all that is on it."""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.server.store.test_store import turn
from tickertape.server.store import answers, arrays, opening, schema, sessions
from tickertape.server.store.arrays import ArrayFacts
from tickertape.server.store.database import Database
from tickertape.server.store.store import Store, StoreError
from tickertape.server.trajectories.samples import samples

_OLD = Path(__file__).with_name("old_tapes")


def version_1(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript((_OLD / "1.sql").read_text())
    connection.execute("INSERT INTO sessions VALUES ('s', 10.0)")
    rest = {
        "messages": [{"role": "user", "content": "Hello"}], "sampling": {"max_tokens": 5}, "template_options": {},
        "request_fields": {}, "ignored_fields": [], "prompt_spans": [[-1, 0, 1], [0, 1, 2]],
        "versions": [["step-1", 2]], "response": {"role": "assistant", "content": "Hi"}, "calls": [],
        "stop_reason": None, "usage": {}, "timings": {},
    }  # fmt: skip
    row = ("s", 0, "t0", None, 11.0, "chat", "m", 0, "", "", np.array([1, 2, 3], "<i4").tobytes(),
           np.array([4, 5], "<i4").tobytes(), np.array([-1, -2], "<f4").tobytes(), "stop", None, "e", "stop", None,
           b"\x01", orjson.dumps(rest))  # fmt: skip
    connection.execute(f"INSERT INTO turns VALUES ({', '.join('?' * len(row))})", row)
    connection.commit()
    connection.close()


def with_layouts(version: int, path: Path) -> None:
    """A tape of version 2, 3 or 4: what has changed between them is not of sessions and turns."""
    connection = sqlite3.connect(path)
    connection.executescript((_OLD / f"{version}.sql").read_text())
    connection.execute("INSERT INTO sessions (id, created_at, turns, stored_bytes) VALUES ('s', 10.0, 1, 28)")
    row = {
        "session_id": "s", "seq": 0, "id": "t0", "created_at": 11.0, "dialect": "chat", "model": "m", "outcome": "stop",
        "first_message": 0, "layout": '[[["step-1",2]],[[0,1,3]],["user"]]', "tools_digest": "", "options_digest": "",
        "prompt_delta": bytes(12), "completion": bytes(8), "logprobs": bytes(8), "engine": "e", "context_digest": b"1",
        "rest": b"{}",
    }  # fmt: skip
    connection.execute(f"INSERT INTO turns ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    connection.commit()
    connection.close()


def test_tape_of_version_1_is_read_and_goes_on(tmp_path: Path) -> None:
    version_1(tmp_path / "tape.db")

    async def read() -> None:
        store = Store(tmp_path / "tape.db")
        found = await store.read(sessions.get, "s")
        assert (found.state, found.turns, found.prompt_tokens, found.completion_tokens) == ("open", 1, 3, 2)
        assert (found.updated_at, found.metadata) == (11.0, {})
        (turn,) = await store.turns("s") or []
        assert (turn.versions, turn.prompt_spans) == ([("step-1", 2)], [(-1, 0, 1), (0, 1, 2)])
        assert turn.sampling == {"max_tokens": 5}
        (sample,) = samples([turn])
        assert [span["role"] for span in sample.message_spans] == [None, "user", "assistant"]
        assert len(await store.load_tree("s")) == 1
        await store.write(sessions.finish, "s", 12.0)
        assert (await store.read(sessions.get, "s")).statistics == {
            "samples": 1, "sample_tokens": 5, "sampled_turns": 1, "sampled_tokens": 2, "per_turn_tokens": 5,
            "freshest": 1,
        }  # fmt: skip
        store.close()

    asyncio.run(read())
    asyncio.run(again(tmp_path))


async def again(tmp_path: Path) -> None:
    store = Store(tmp_path / "tape.db")
    assert (await store.read(sessions.get, "s")).state == "finished"
    (turn,) = await store.read(answers.path_to, "t0")
    await store.write(answers.hide, turn, 13.0)
    assert await store.read(answers.is_hidden, "t0")
    store.close()


OLDER: dict[int, Callable[[Path], None]] = {1: version_1} | {n: partial(with_layouts, n) for n in (2, 3, 4)}


@pytest.mark.parametrize("version", [2, 3, 4])
def test_tape_of_later_versions_keeps_what_it_has_and_takes_arrays(tmp_path: Path, version: int) -> None:
    OLDER[version](tmp_path / "tape.db")

    async def use() -> None:
        store = Store(tmp_path / "tape.db")
        (found,) = await store.turns("s") or []
        assert (found.id, len(found.prompt_delta), found.versions) == ("t0", 3, [("step-1", 2)])
        assert await store.read(arrays.described, "s") == {}
        experts = np.ones((4, 2), np.uint8)
        await store.commit(turn(1, parent_id="t0", token_arrays={"routed_experts": experts}))
        assert await store.read(arrays.find, "s", "s-1", "routed_experts") == ArrayFacts("|u1", [4, 2])
        store.close()

    asyncio.run(use())


@pytest.mark.parametrize("version", OLDER)
def test_migrated_tape_has_the_columns_and_indexes_of_a_new_one(tmp_path: Path, version: int) -> None:
    OLDER[version](tmp_path / "old.db")

    def shape(path: Path) -> dict[str, object]:
        Store(path).close()
        connection = sqlite3.connect(path)
        found: dict[str, object] = {}
        for table in schema.metadata.tables:
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            found[table] = sorted((name, kind, required) for _, name, kind, required, _, _ in columns)
            found[f"{table}, indexes"] = sorted(row[1] for row in connection.execute(f"PRAGMA index_list({table})"))
        connection.close()
        return found

    assert shape(tmp_path / "old.db") == shape(tmp_path / "new.db")
    assert_is_the_schema(str(tmp_path / "old.db"))


def assert_is_the_schema(place: str) -> None:
    """What alembic finds there is what it would make."""
    database = Database(place)
    with database.reading() as connection:
        found = MigrationContext.configure(connection)
        assert compare_metadata(found, schema.metadata) == []
        assert found.get_current_revision() == str(schema.SCHEMA_VERSION)
        assert connection.scalar(sa.select(schema.tape.c.schema_version)) == schema.SCHEMA_VERSION
    database.close()


def test_new_tape_has_the_schema_and_says_so(place: str) -> None:
    Store(place).close()
    assert_is_the_schema(place)


def test_tape_of_the_first_version_on_postgresql_is_led_to_this_one(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.writing() as connection:
        connection.exec_driver_sql((_OLD / "5_postgresql.sql").read_text())
        values = {"id": "s", "created_at": 1.0, "metadata": {"seed": 7}}
        connection.execute(schema.sessions.insert().values(values))
    database.close()
    store = Store(postgres_url)
    assert store.read_now(sessions.get, "s").metadata == {"seed": 7}
    store.close()
    assert_is_the_schema(postgres_url)


@pytest.mark.parametrize("version", [1, 4])
def test_turns_of_an_older_tape_are_followed_by_the_next_place(tmp_path: Path, version: int) -> None:
    OLDER[version](tmp_path / "tape.db")

    async def go_on() -> None:
        store = Store(tmp_path / "tape.db")
        more = turn(7, parent_id="t0")
        await store.commit(more)
        assert more.seq == 1
        store.close()

    asyncio.run(go_on())


def test_reader_makes_no_tape_where_there_is_none(place: str) -> None:
    with pytest.raises(StoreError, match="there is no tape in it"):
        Store(place, make=False)
    database = Database(place)
    with database.reading() as connection:
        assert sa.inspect(connection).get_table_names() == []
    database.close()


def test_schema_version_is_the_last_step() -> None:
    assert opening.scripts().get_current_head() == str(schema.SCHEMA_VERSION)


def test_half_a_migration_is_none(tmp_path: Path) -> None:
    version_1(tmp_path / "tape.db")
    connection = sqlite3.connect(tmp_path / "tape.db")
    connection.execute("UPDATE turns SET rest = X'7B'")  # no JSON: the step fails midway
    connection.commit()
    try:
        Store(tmp_path / "tape.db")
    except ValueError:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(sessions)")]
        assert columns == ["id", "created_at"]
    else:
        raise AssertionError("it should have failed")
    finally:
        connection.close()


def test_database_in_memory_is_one_database() -> None:
    database = Database(":memory:")
    with database.writing() as connection:
        schema.metadata.create_all(connection)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM sessions").scalar() == 0
    database.close()
