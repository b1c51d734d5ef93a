"""Kimi's directories as they are shipped, and its tools as its own tokenizers declare them.

The ids are those of the published programs: ``tokenization_kimi.py`` and its ``tool_declaration_ts.py``.
"""

import builtins
from typing import Any

import pytest

from tests.materials.tml import kimi_dir
from tests.renderers.strategies import user
from tickertape.renderers import TokenizerError
from tickertape.renderers.choose import choose_renderer, get_renderer
from tickertape.renderers.kimi_tools import typescript
from tickertape.renderers.tokenizer import Tokenizer

_DIRECTORIES = {
    "kimi-k2": ("k2_base", "moonshotai-Kimi-K2-Instruct", "kimi_k2"),
    "kimi-k2-thinking": ("k2_thinking", "moonshotai-Kimi-K2-Thinking", "kimi_k2"),
    "kimi-k2.5": ("k2_5", "moonshotai-Kimi-K2.5", "kimi_k25"),
}


@pytest.fixture
def never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any) -> str:
        raise AssertionError("something was asked on the terminal")

    monkeypatch.setattr(builtins, "input", ask)


@pytest.mark.usefixtures("never_asked")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("don't I'LL we've", [88709, 4154, 5847, 22205]),
        (
            "漢字mixed漢字English日本語テキスト123",
            [1435, 95, 1855, 69072, 1435, 95, 1855, 44372, 4546, 63011, 25875, 32045, 33360, 6694],
        ),
        (
            "def f():\n\treturn 'x'  # 中文 comment\r\n",
            [1166, 285, 11437, 1616, 542, 87, 6, 220, 1214, 220, 16717, 8018, 462],
        ),
        ("1234567 3.14 ½ٱ", [6694, 12972, 22, 220, 18, 13, 1626, 220, 45953, 149, 109]),
    ],
)
def test_ranks_are_read_with_the_published_pattern(text: str, ids: list[int]) -> None:
    tokenizer = Tokenizer.load(kimi_dir(*_DIRECTORIES["kimi-k2.5"]))
    assert tokenizer.encode_text(text) == tokenizer.encode_text_with_starts(text)[0] == ids
    assert tokenizer.decode(ids) == text


@pytest.mark.usefixtures("never_asked")
@pytest.mark.slow
@pytest.mark.parametrize("family", _DIRECTORIES)
def test_a_directory_is_served_as_it_is_shipped(family: str) -> None:
    choice = choose_renderer(kimi_dir(*_DIRECTORIES[family]))
    assert (choice.name, choice.renderer.tokenizer.stop_ids, choice.renderer.tokenizer.vocab_size) == (
        family,
        [163586],
        163840,
    )


@pytest.mark.usefixtures("never_asked")
def test_a_program_that_is_not_known_is_not_run(tmp_path: Any) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["tokenization_own.Own", null]}}')
    (tmp_path / "tokenization_own.py").write_text("raise SystemExit('a program of a checkpoint was run')\n")
    with pytest.raises(TokenizerError, match=r"a program of its own, which is never run here.*tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tiktoken.model").write_text("IQ== 0\n")
    with pytest.raises(TokenizerError, match=r"Give a directory with a tokenizer\.json"):
        Tokenizer.load(tmp_path)


_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks it up.\nTwice.",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {
                "unit": {"enum": ["C", "F", None], "default": "C"},
                "city": {"type": "string", "description": "Which.", "minLength": 1},
                "days": {"type": ["integer", "null"]},
                "deep": {"type": "boolean", "default": True},
                "near": {"type": "array", "items": {"$ref": "#/$defs/Place"}},
            },
            "$defs": {
                "Place": {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": False}
            },
        },
    },
}
_DECLARED = """# Tools

## functions
namespace functions {
interface Place {
  x?: number,
  [k: string]: never
}
// Looks it up.
// Twice.
type look_up = (_: {
  // Which.
  // minLength: 1
  city: string,
  days?: number | null,
  // Default: True
  deep?: boolean,
  near?: Array<Place>,
  // Default: "C"
  unit?: "C" | "F" | None
}) => any;
}
"""


def test_tools_are_declared_in_typescript() -> None:
    assert typescript([_TOOL]) == _DECLARED


@pytest.mark.parametrize("schema", [{"$ref": "#/$defs/Nothing"}, {"description": "no type"}, {"type": ["own"]}])
def test_what_typescript_cannot_express_is_shown_as_json(schema: dict[str, Any]) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"x": schema}}}
    assert typescript([{"type": "function", "function": function}]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "declared"),
    [
        (
            "kimi-k2",
            '[{"function":{"description":"d","name":"f","parameters":{"properties":{},"type":"object"}},'
            '"type":"function"}]',
        ),
        ("kimi-k2.5", "# Tools\n\n## functions\nnamespace functions {\n// d\ntype f = (_: {}) => any;\n}\n"),
    ],
)
def test_both_renderers_show_tools_as_the_models_tokenizer_does(family: str, declared: str) -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    tokenizer = Tokenizer.load(kimi_dir(*_DIRECTORIES[family]))
    for name in (family, "template"):
        renderer = get_renderer(name, tokenizer)
        ids = renderer.build_generation_prompt([user("q")], [{"type": "function", "function": function}]).token_ids
        assert f"tool_declare<|im_middle|>{declared}<|im_end|>" in tokenizer.decode(ids)
