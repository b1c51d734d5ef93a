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


def test_snippets_run_and_lead_to_a_sample_with_a_reward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rollout, agent = blocks("python")
    with scripted(ScriptedEngine(lambda _ids, _sampling: [9707, END]), tmp_path) as proxy:
        exec(rollout.replace("http://127.0.0.1:8700", proxy.url), {})
        said = " ".join(capsys.readouterr().out.split())
        assert said.startswith("0.0 [")  # the reward: "Hello" is not the capital of France
        assert "9707 151645]" in said
        names: dict[str, object] = {}
        exec(agent.replace("http://127.0.0.1:8700", proxy.url), names)
        names["client"].close()  # type: ignore[attr-defined]
        assert capsys.readouterr().out == "Hello\n"
        (session,) = proxy.tape.sessions(group_id="question-7")
        assert session.state == "finished"


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings: lower case, without punctuation, hyphens for spaces, numbered if met before."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
    again = (made[:at].count(anchor) for at, anchor in enumerate(made))
    return {f"{anchor}-{number}" if number else anchor for anchor, number in zip(made, again, strict=True)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        meant = page.parent / name if name else page
        assert meant.exists(), target
        assert not anchor or anchor in anchors(meant), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - set(re.findall(r"\(([\w-]+\.md)", index)) == {
        "README.md"
    }


def test_commands_are_the_ones_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install -e '.[dev]' && .venv/bin/pytest" in README
    assert "-e '.[dev]'" in script
    assert "\npytest\n" in script
