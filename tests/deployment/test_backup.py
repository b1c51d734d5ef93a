"""Backups as docs/operations.md makes them, while the server takes turns."""

import re
import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.deployment.places import ROOT
from tests.deployment.processes import ANSWER, bin_directory, chat, free_port, serve_settings, tickertape
from tests.engines import faulty_vllm

pytestmark = pytest.mark.slow


def documented() -> list[str]:
    """The command for SQLite, word for word."""
    found = re.search(r'^\$ (python -c "import sqlite3.*) tape\.db backup\.db$', OPERATIONS, re.MULTILINE)
    assert found is not None
    return shlex.split(found[1])


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def test_a_backup_of_a_file_in_use_has_every_turn_that_was_answered_before(tmp_path: Path) -> None:
    answered: list[str] = []
    over = threading.Event()

    def play(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not over.is_set():
                answer = client.post("/sessions/s/v1/chat/completions", json=chat(f"Turn {len(answered)}."))
                answered.append(answer.raise_for_status().headers["X-Turn-Id"])

    folder, restored = tmp_path / "served", tmp_path / "restored"
    for each in (folder, restored):
        each.mkdir()
    with faulty_vllm(ANSWER) as engine:
        with tickertape(serve_settings(engine, free_port()), folder) as server:
            player = threading.Thread(target=play, args=(server.url,))
            player.start()
            while len(answered) < 20:
                time.sleep(0.01)
            before = set(answered)
            command = [
                str(bin_directory() / "python"),
                *documented()[1:],
                str(folder / "tape.db"),
                str(tmp_path / "b.db"),
            ]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert said == "ok\n"
            over.set()
            player.join()
        shutil.copy(tmp_path / "b.db", restored / "tape.db")
        with tickertape(serve_settings(engine, free_port()), restored) as server:
            turns = httpx.get(f"{server.url}/sessions/s/turns", params={"limit": 1000}, trust_env=False).json()["turns"]
            assert before <= {turn["id"] for turn in turns}
            more = httpx.post(f"{server.url}/sessions/s/v1/chat/completions", json=chat(), timeout=30, trust_env=False)
            assert more.status_code == 200
