"""docker/systemd: the unit as systemd reads it, and what it starts."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deployment.places import SYSTEMD
from tests.deployment.processes import ANSWER, free_port, serve_settings, started, wait_until_ready
from tests.engines import faulty_vllm
from tests.materials.fetch import unavailable

UNIT = SYSTEMD / "tickertape.service"


def service() -> dict[str, list[str]]:
    """Of [Service], each key with its values."""

    class Values(dict[str, list[str]]):
        """configparser gives a list for each time that a key is given."""

        def __setitem__(self, key: str, value: list[str]) -> None:
            super().__setitem__(key, [*self.get(key, []), *value] if isinstance(value, list) else value)

    parser = configparser.RawConfigParser(dict_type=Values, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return {key: value.split("\n") for key, value in parser["Service"].items()}


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        unavailable("systemd-analyze", "it is not there", ("apt-get", "install", "-y", "systemd"))
    return found


def test_systemd_reads_every_line(analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^(ExecStart)=\S+", rf"\1={sys.executable}", UNIT.read_text(), flags=re.MULTILINE))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stderr, done.stderr
    unit.write_text(unit.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    wrong = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "NoNewPrivilege" in wrong.stderr, "verify tells what it does not know"


def test_the_service_is_exposed_to_little(analyze: str) -> None:
    """systemd's own score: 0 is nothing, 10 is everything; a service without a word of it has 9.6."""
    command = [analyze, "security", "--offline=true", "--threshold=20", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_stop_waits_longer_than_the_grace_period() -> None:
    grace = tomllib.loads((SYSTEMD / "tickertape.toml").read_text())["grace"]
    assert int(service()["TimeoutStopSec"][0]) >= grace + 15


def test_the_service_is_started_again_for_as_long_as_its_database_is_away() -> None:
    assert service()["Restart"] == ["on-failure"]
    assert "StartLimitIntervalSec=0\n" in UNIT.read_text()


def test_the_tape_lies_in_the_folder_that_the_service_may_write() -> None:
    (folder,) = service()["StateDirectory"]
    assert tomllib.loads((SYSTEMD / "tickertape.toml").read_text())["db"] == f"/var/lib/{folder}/tape.db"


@pytest.mark.slow
def test_what_the_unit_starts_serves(tmp_path: Path) -> None:
    """ExecStart with the unit's variables and settings file; paths and engine are those of this machine."""
    config, port = tmp_path / "tickertape.toml", free_port()
    config.write_text((SYSTEMD / "tickertape.toml").read_text().replace("/var/lib/tickertape", str(tmp_path)))
    (command,) = service()["ExecStart"]
    program, *arguments = command.split()
    assert program == "/opt/tickertape/bin/tickertape"
    variables = dict(line.split("=", 1) for line in service()["Environment"])
    variables = {name: str(tmp_path) if name == "HOME" else str(config) for name, _ in variables.items()}
    with faulty_vllm(ANSWER) as engine:
        overriding = serve_settings(engine, port) | variables | {"PYTHONPATH": ":".join(sys.path)}
        line = [sys.executable, "-m", "tickertape.server.commands.cli", *arguments]
        with started(line, environment=overriding, cwd=tmp_path, log=tmp_path / "log") as process:
            wait_until_ready(f"http://127.0.0.1:{port}/ready", process, tmp_path / "log")
            assert (tmp_path / "tape.db").exists()
            process.terminate()
            assert process.wait(30) == 0
