"""The command line as people expect it: version, help, completion, colour, quiet; and `finish`."""

import sys
from pathlib import Path

import pytest

from tests.engines import ScriptedEngine
from tests.materials import qwen3_dir
from tests.server.conftest import Proxy, StartProxy
from tickertape.server.commands.cli import app
from tickertape.server.commands.output import is_color
from tickertape.server.settings.model import PANELS, panel_of_each

END = 151645


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        app(list(arguments), prog_name="tickertape")
    return int(left.value.code or 0)


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Proxy:
    return start_proxy(ScriptedEngine(lambda _ids, _sampling: [9707, END]))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("tickertape 0.")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_serve_is_grouped(
    flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("serve", flag) == 0
    said = capsys.readouterr().out
    assert all(f"─ {panel} ─" in said for panel in PANELS.values())
    assert set(panel_of_each().values()) == set(PANELS.values())  # no field before the first group


def test_commands_are_completed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TICKERTAPE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "tickertape se")
    monkeypatch.setenv("COMP_CWORD", "1")
    run()
    assert capsys.readouterr().out.split() == ["serve"]


@pytest.mark.parametrize(
    ("terminal", "environ", "colour"),
    [
        (True, {"TERM": "xterm-256color"}, True),
        (True, {"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm-256color"}, False),
    ],
)
def test_colour_goes_into_terminals_that_show_it(
    terminal: bool, environ: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert is_color(None) is colour
    assert is_color(True) is True
    assert is_color(False) is False


def test_what_is_printed_into_a_pipe_has_no_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "chat.json").write_text('[{"role": "user", "content": "Hello!"}]')
    assert run("render", str(qwen3_dir()), str(tmp_path / "chat.json")) == 0
    output = capsys.readouterr()
    assert output.out.startswith("<|im_start|>user\nHello!")
    assert "\x1b" not in output.out


def test_finish_by_id_with_a_reward_and_by_filter(
    proxy: Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for session in ("a", "b", "c"):
        proxy.tape.create_session(session, group_id="g" if session != "a" else None)
        assert proxy.chat(session, [{"role": "user", "content": "Hi"}]).status_code == 200
    target = tmp_path / "samples.parquet"
    assert run("export", proxy.url, str(target)) == 3  # nothing is finished yet
    assert not target.exists()
    assert run("finish", proxy.url, "a", "--reward", "0.5") == 0
    assert run("finish", proxy.url, "--where", "group_id=g") == 0
    assert [session.state for session in proxy.tape.sessions()] == ["finished"] * 3
    assert proxy.tape.samples("a")[0].reward == 0.5
    assert "2 sessions are finished" in capsys.readouterr().err
    assert run("export", proxy.url, str(target), "--quiet") == 0
    assert target.exists()
    assert not capsys.readouterr().err
    assert run("finish", proxy.url, "--where", "group_id=g") == 1
    assert "there is no open session" in capsys.readouterr().err
    assert run("finish", proxy.url) == 1
    assert "name sessions, or give a filter" in capsys.readouterr().err
