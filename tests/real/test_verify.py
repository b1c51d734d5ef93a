"""``tickertape verify`` on real engines: a tape that they wrote is found right, and what was changed on it is found."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.real.engines import RealServer
from tests.real.test_conversations import proxied
from tests.server.commands.test_verify import play, spoil
from tests.server.conftest import Proxy
from tickertape.server.commands.cli import app

pytestmark = [pytest.mark.real, pytest.mark.slow]


def verify(server: RealServer, source: str, *arguments: str) -> Result:
    command = ["verify", source, "--engine", f"{server.kind}={server.url}", "--model", str(server.model), *arguments]
    return CliRunner().invoke(app, command, env={"COLUMNS": "160"})


def test_tape_is_found_right_and_a_changed_logprob_is_found(server: RealServer, tmp_path: Path) -> None:
    _, proxied_by = proxied(server, tmp_path)
    proxy: Proxy
    with proxied_by as proxy:
        proxy.http.timeout = 300  # type: ignore[assignment]
        play(proxy, "drawn", 6, temperature=1.0)
        play(proxy, "greedy", 6, temperature=0)
        by_url = verify(server, proxy.url)
    assert by_url.exit_code == 0, by_url.output
    assert "12 turns in 2 sessions, 0 off, 0 not comparable" in by_url.output
    assert "echo equal in 2 of 2 streams; greedy equal in 6 of 6 turns" in by_url.output
    spoil(tmp_path / "tape.db", "drawn", 3, 2, 0.01)
    changed = verify(server, str(tmp_path / "tape.db"))
    assert changed.exit_code == 1, changed.output
    assert "off logprob: session drawn, turn" in changed.output
    assert "1 beyond 0.001" in changed.output
