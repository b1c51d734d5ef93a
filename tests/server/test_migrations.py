"""A tape of an older schema is led to this one, with all that is on it."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.server.test_store import turn
from tickertape.server.store import answers, arrays, schema, sessions
from tickertape.server.store.arrays import ArrayFacts
from tickertape.server.store.database import Database
from tickertape.server.store.store import Store
from tickertape.server.trajectories.samples import samples

#: As version 1 made them.
_V1 = """
CREATE TABLE tape (schema_version INTEGER NOT NULL, PRIMARY KEY (schema_version));
INSERT INTO tape VALUES (1);
CREATE TABLE sessions (id VARCHAR(200) NOT NULL, created_at FLOAT NOT NULL, PRIMARY KEY (id));
CREATE INDEX sessions_by_time ON sessions (created_at, id);
CREATE TABLE toolsets (digest VARCHAR(64) NOT NULL, tools BLOB NOT NULL, PRIMARY KEY (digest));
CREATE TABLE turns (
  session_id VARCHAR(200) NOT NULL, seq INTEGER NOT NULL, id VARCHAR(64) NOT NULL, parent_id VARCHAR(64),
  created_at FLOAT NOT NULL, dialect VARCHAR(32) NOT NULL, model TEXT NOT NULL, first_message INTEGER NOT NULL,
  tools_digest VARCHAR(64) NOT NULL, options_digest VARCHAR(64) NOT NULL, prompt_delta BLOB NOT NULL,
  completion BLOB NOT NULL, logprobs BLOB NOT NULL, outcome VARCHAR(32) NOT NULL, error TEXT, engine TEXT NOT NULL,
  finish_reason VARCHAR(32), fork_reason TEXT, context_digest BLOB NOT NULL, rest BLOB NOT NULL,
  PRIMARY KEY (session_id, seq), UNIQUE (id), FOREIGN KEY(session_id) REFERENCES sessions (id));
"""
#: As version 2 made them.
_V2 = """
CREATE TABLE leases (id VARCHAR(64) NOT NULL, consumer VARCHAR(200) NOT NULL, created_at FLOAT NOT NULL, expires_at
  FLOAT NOT NULL, closed_at FLOAT, sessions INTEGER NOT NULL, acked INTEGER DEFAULT 0 NOT NULL, released INTEGER
  DEFAULT 0 NOT NULL, expired INTEGER DEFAULT 0 NOT NULL, options JSON NOT NULL, PRIMARY KEY (id));
CREATE TABLE rewards (turn_id VARCHAR(64) NOT NULL, session_id VARCHAR(200) NOT NULL, reward FLOAT, token_rewards
  BLOB, updated_at FLOAT NOT NULL, PRIMARY KEY (turn_id), FOREIGN KEY(session_id) REFERENCES sessions (id));
CREATE TABLE sessions (id VARCHAR(200) NOT NULL, created_at FLOAT NOT NULL, active_at FLOAT DEFAULT 0 NOT NULL, state
  VARCHAR(16) DEFAULT 'open' NOT NULL, task_id VARCHAR(200), group_id VARCHAR(200), policy_version VARCHAR(200),
  metadata JSON DEFAULT '{}' NOT NULL, reward FLOAT, turns INTEGER DEFAULT 0 NOT NULL, prompt_tokens INTEGER DEFAULT 0
  NOT NULL, completion_tokens INTEGER DEFAULT 0 NOT NULL, stored_bytes INTEGER DEFAULT 0 NOT NULL, finished_at FLOAT,
  finish_number INTEGER, samples INTEGER, sample_tokens INTEGER, sampled_turns INTEGER, sampled_tokens INTEGER,
  per_turn_tokens INTEGER, freshest INTEGER, lease_id VARCHAR(64), acked_at FLOAT, acked_by VARCHAR(200), PRIMARY KEY
  (id));
CREATE TABLE tape (schema_version INTEGER NOT NULL, last_finish_number INTEGER DEFAULT 0 NOT NULL, PRIMARY KEY
  (schema_version));
CREATE TABLE toolsets (digest VARCHAR(64) NOT NULL, tools BLOB NOT NULL, PRIMARY KEY (digest));
CREATE TABLE turns (session_id VARCHAR(200) NOT NULL, seq INTEGER NOT NULL, id VARCHAR(64) NOT NULL, late BOOLEAN
  DEFAULT 0 NOT NULL, parent_id VARCHAR(64), created_at FLOAT NOT NULL, dialect VARCHAR(32) NOT NULL, model TEXT NOT
  NULL, outcome VARCHAR(32) NOT NULL, first_message INTEGER NOT NULL, layout BLOB NOT NULL, tools_digest VARCHAR(64)
  NOT NULL, options_digest VARCHAR(64) NOT NULL, prompt_delta BLOB NOT NULL, completion BLOB NOT NULL, logprobs BLOB
  NOT NULL, error TEXT, engine TEXT NOT NULL, finish_reason VARCHAR(32), fork_reason TEXT, context_digest BLOB NOT
  NULL, rest BLOB NOT NULL, PRIMARY KEY (session_id, seq), FOREIGN KEY(session_id) REFERENCES sessions (id), UNIQUE
  (id));
CREATE INDEX ix_rewards_session_id ON rewards (session_id);
CREATE INDEX leases_open ON leases (closed_at, expires_at);
CREATE UNIQUE INDEX sessions_by_finish ON sessions (finish_number);
CREATE INDEX sessions_by_group ON sessions (group_id);
CREATE INDEX sessions_by_lease ON sessions (lease_id);
CREATE INDEX sessions_by_task ON sessions (task_id);
CREATE INDEX sessions_by_time ON sessions (created_at, id);
CREATE INDEX sessions_to_lease ON sessions (acked_at, lease_id, finish_number);
INSERT INTO tape VALUES (2, 7);
"""


def version_1(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(_V1)
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


def version_2(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(_V2)
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


def test_tape_of_version_2_keeps_what_it_has_and_takes_arrays(tmp_path: Path) -> None:
    version_2(tmp_path / "tape.db")

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


@pytest.mark.parametrize("older", [version_1, version_2])
def test_migrated_tape_has_the_columns_and_indexes_of_a_new_one(tmp_path: Path, older: Callable[[Path], None]) -> None:
    older(tmp_path / "old.db")

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
