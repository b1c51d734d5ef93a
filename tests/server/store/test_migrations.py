"""A tape of an older schema is led to this one, with all that is on it. From the first version on: the schema of each
is recorded, and a made-up next step shows that the way there works."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.server.store.test_store import turn
from tickertape.server.store import opening, schema, sessions
from tickertape.server.store.database import Database
from tickertape.server.store.store import Store, StoreError

#: ``python -m tests.server.store.test_migrations`` records the schema of this version.
OLD = Path(__file__).with_name("old_tapes")


def ddl(dialect: str) -> str:
    """What makes the tables of this version, as SQL."""
    statements: list[str] = []

    def keep(statement: sa.schema.ExecutableDDLElement, *_: object) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)).strip().replace("\t", "    "))

    engine = sa.create_mock_engine("sqlite://" if dialect == "sqlite" else "postgresql+psycopg://", keep)
    schema.metadata.create_all(engine, checkfirst=False)
    statements.sort(key=lambda made: "" if made.startswith("CREATE TABLE") else made)  # indexes come in any order
    return ";\n".join(statements) + ";\n"


def recorded(version: int, place: str) -> None:
    """Makes an old tape with a session and a turn, without the code that is tested."""
    is_postgres = place.startswith("postgresql")
    script = (OLD / f"{version}_{'postgresql' if is_postgres else 'sqlite'}.sql").read_text()
    rows = {
        "tape": {"schema_version": version},
        "alembic_version": {"version_num": str(version)},
        "sessions": {"id": "s", "created_at": 10.0, "active_at": 11.0, "turns": 1, "next_seq": 1},
        "turns": {
            "session_id": "s",
            "seq": 0,
            "id": "t0",
            "created_at": 11.0,
            "dialect": "chat",
            "model": "m",
            "outcome": "stop",
            "first_message": 0,
            "layout": '[[["step-1",2]],[[0,1,3]],["user"]]',
            "tools_digest": "",
            "options_digest": "",
            "prompt_delta": bytes(12),
            "completion": bytes(8),
            "logprobs": bytes(8),
            "engine": "e",
            "context_digest": b"1",
            "rest": b"{}",
        },
    }
    database = Database(place)
    with database.writing() as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        for table, values in rows.items():
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)
    database.close()


VERSIONS = range(1, schema.SCHEMA_VERSION + 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_tape_of_each_version_is_read_and_goes_on(version: int, place: str) -> None:
    recorded(version, place)

    async def use() -> None:
        store = Store(place)
        (found,) = await store.turns("s") or []
        assert (found.id, len(found.prompt_delta), found.versions) == ("t0", 3, [("step-1", 2)])
        more = turn(7, parent_id="t0")
        await store.commit(more)
        assert more.seq == 1
        await store.write(sessions.finish, "s", 12.0)
        assert (await store.read(sessions.get, "s")).state == "finished"
        store.close()

    asyncio.run(use())
    assert_is_the_schema(place)


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


def test_this_version_is_recorded() -> None:
    for dialect in ("sqlite", "postgresql"):
        path = OLD / f"{schema.SCHEMA_VERSION}_{dialect}.sql"
        assert path.read_text() == ddl(dialect), "python -m tests.server.store.test_migrations, or a new version"


def test_schema_version_is_the_last_step() -> None:
    assert opening.scripts().get_current_head() == str(schema.SCHEMA_VERSION)


# A next version, made up.

_NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{next}", "{last}", None, None


def upgrade():
    op.add_column("sessions", sa.Column("colour", sa.Text))
    op.execute("UPDATE sessions SET colour = 'blue'")
    {more}
"""


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The step to a version after this one; what it does can be written anew."""
    steps = tmp_path / "migrations"
    shutil.copytree(Path(opening.__file__).with_name("migrations"), steps)
    last = schema.SCHEMA_VERSION
    step = steps / "versions" / f"v{last + 1}_next.py"
    step.write_text(_NEXT.format(next=last + 1, last=last, more=""))
    monkeypatch.setattr(opening, "_MIGRATIONS", steps)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", last + 1)
    opening.scripts.cache_clear()
    yield step
    opening.scripts.cache_clear()


def columns(place: str) -> tuple[list[str], int | None]:
    database = Database(place)
    with database.reading() as connection:
        found = [column["name"] for column in sa.inspect(connection).get_columns("sessions")]
        version = connection.scalar(sa.select(schema.tape.c.schema_version))
    database.close()
    return found, version


def test_older_tape_is_led_to_a_next_version_with_what_is_on_it(place: str, next_version: Path) -> None:
    recorded(1, place)
    store = Store(place)
    assert [found.id for found in asyncio.run(store.turns("s")) or []] == ["t0"]
    assert store.read_now(lambda connection: connection.scalar(sa.text("SELECT colour FROM sessions"))) == "blue"
    store.close()
    found, version = columns(place)
    assert ("colour" in found, version) == (True, schema.SCHEMA_VERSION)
    Store(place).close()  # and once more, when there is nothing to do


def test_half_a_migration_is_none(place: str, next_version: Path) -> None:
    recorded(1, place)
    step = next_version.read_text()
    next_version.write_text(step.rstrip() + "\n    raise ValueError('midway')\n")
    with pytest.raises(ValueError, match="midway"):
        Store(place)
    found, version = columns(place)
    assert ("colour" in found, version) == (False, 1)
    next_version.write_text(step)
    opening.scripts.cache_clear()
    Store(place).close()
    assert "colour" in columns(place)[0]


def test_reader_makes_no_tape_where_there_is_none(place: str) -> None:
    with pytest.raises(StoreError, match=r"there is no (tape in it|such file)"):
        Store(place, make=False)
    database = Database(place)
    with database.reading() as connection:
        assert sa.inspect(connection).get_table_names() == []
    database.close()


def test_database_in_memory_is_one_database() -> None:
    database = Database(":memory:")
    with database.writing() as connection:
        schema.metadata.create_all(connection)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM sessions").scalar() == 0
    database.close()


if __name__ == "__main__":
    for name in ("sqlite", "postgresql"):
        (OLD / f"{schema.SCHEMA_VERSION}_{name}.sql").write_text(ddl(name))
