"""A renderer of one's own, by its dotted path; and what a family states once."""

from pathlib import Path

import pytest

from tests.materials import qwen3_dir
from tickertape.renderers import RenderError, Tokenizer, choose_renderer, get_renderer
from tickertape.renderers.choose import renderer_class
from tickertape.renderers.families.qwen3 import Qwen3
from tickertape.renderers.reasoning import TaggedReasoning

MESSAGES = [{"role": "user", "content": "Hello!"}]
OWN = """
from tickertape.renderers.families.qwen3 import Qwen3

class MyFormat(Qwen3):
    name = "mine"

NUMBER = 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_formats.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_formats"


def test_a_renderer_of_ones_own_is_named_by_its_path(module: str) -> None:
    tokenizer = Tokenizer.load(qwen3_dir())
    own = get_renderer(f"{module}.MyFormat", tokenizer, history="template", enable_thinking=False)
    assert isinstance(own, Qwen3)
    theirs = get_renderer("template", tokenizer, enable_thinking=False)
    assert own.build_generation_prompt(MESSAGES).token_ids == theirs.build_generation_prompt(MESSAGES).token_ids


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_formats.Missing", "cannot be imported"),
        ("no_such_package.Format", "is it on PYTHONPATH"),
        ("my_formats.NUMBER", "is no subclass"),
        ("qwen3.7", "did you mean qwen3.6 or"),
    ],
)
def test_what_is_no_renderer_is_refused(module: str, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        renderer_class(name)


def test_an_option_that_neither_family_nor_template_has_is_refused() -> None:
    tokenizer = Tokenizer.load(qwen3_dir())
    assert choose_renderer(tokenizer, enable_thinking=False).renderer.name == "qwen3"
    with pytest.raises(RenderError, match=r"has no option enable_thinkin; there are: .*enable_thinking"):
        choose_renderer(tokenizer, enable_thinkin=False)
    with pytest.raises(RenderError, match="has no option"):
        get_renderer("template", tokenizer, enable_thinkin=False)


def test_a_thoughts_written_close_follows_its_closing_tag() -> None:
    assert TaggedReasoning("<a>", "</a>").unfinished_close == "\n</a>\n\n"
    assert TaggedReasoning("<a>", "</a>", around_close=("", "\n")).unfinished_close == "</a>\n"
