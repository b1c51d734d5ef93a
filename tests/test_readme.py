"""What the README shows runs as it stands."""

import re
from pathlib import Path

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import scripted

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
END = 151645


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_agent_and_tape_snippets_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent, tape = blocks("python")
    with scripted(ScriptedEngine(lambda _ids, _sampling: [9707, END]), tmp_path) as proxy:
        names: dict[str, object] = {}
        exec(agent.replace("http://127.0.0.1:8700", proxy.url), names)
        names["client"].close()  # type: ignore[attr-defined]
        exec(tape.replace("http://127.0.0.1:8700", proxy.url), {})
    said, sample = capsys.readouterr().out.split("\n", 1)
    assert said == "Hello"
    assert "[9707 151645]" in " ".join(sample.split()) or "9707 151645]" in sample


def test_links_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_commands_are_the_ones_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install -e '.[dev]' && .venv/bin/pytest" in README
    assert "-e '.[dev]'" in script
    assert "\npytest\n" in script
