"""Values that a model writes without their types: a schema gives them back."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.renderers.strategies import json_values, texts, tool
from tickertape.renderers.json_text import strict_json
from tickertape.renderers.tool_calls.elements import json_or_text, python_or_json
from tickertape.renderers.tool_calls.offered import Offered, Value

#: How templates print a value that is not text: GLM, MiniMax and Qwen3.6; Nemotron, Qwen3-Coder and Qwen3.5; Seed-OSS.
_SPELLINGS = {"as JSON": json_or_text, "as Python, but lists and objects as JSON": python_or_json, "as Python": str}
_each_spelling = pytest.mark.parametrize("spell", _SPELLINGS.values(), ids=_SPELLINGS)
Spell = Callable[[Any], str]

_BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "integer": st.integers(),
    "number": st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    "boolean": st.booleans(),
    "null": st.none(),
    "array": st.lists(json_values, max_size=4),
    "object": st.dictionaries(texts, json_values, max_size=4),
}
_types = st.sampled_from(sorted(_BY_TYPE))


def _read(written: str, schema: Any, **root: Any) -> Any:
    """The value of parameter ``x`` of function ``f``, whose schema is given."""
    offer = tool("f", "Does it.", {"x": schema})
    offer["function"]["parameters"].update(root)
    return strict_json(Offered([offer]).json_of("f", "x", written).json)


def _same(one: Any, other: Any) -> bool:
    """Equal in value and type: Python has it that ``True == 1`` and ``1 == 1.0``."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@_each_spelling
@given(data=st.data(), kind=_types)
def test_a_value_comes_back_by_its_type(spell: Spell, data: st.DataObject, kind: str) -> None:
    value = data.draw(_BY_TYPE[kind])
    assert _same(_read(spell(value), {"type": kind}), value)


@_each_spelling
@given(
    data=st.data(), kinds=st.lists(_types, min_size=1, max_size=4, unique=True), form=st.sampled_from(["type", "anyOf"])
)
def test_a_value_of_several_types_comes_back(spell: Spell, data: st.DataObject, kinds: list[str], form: str) -> None:
    value = data.draw(_BY_TYPE[data.draw(st.sampled_from(kinds))])
    union = {"type": kinds} if form == "type" else {"anyOf": [{"type": kind} for kind in kinds]}
    if isinstance(value, str):  # text that spells a value of another type cannot be told from it
        assume(isinstance(_read(value, {}), str))
    assert _same(_read(spell(value), union), value)


@_each_spelling
@given(value=json_values)
def test_without_a_schema_what_is_no_text_comes_back(spell: Spell, value: Any) -> None:
    assume(not isinstance(value, str))
    assert _same(_read(spell(value), {}), value)


@given(text=texts | st.sampled_from(["true", "None", "5", "[1]", "{'a': 1}", '"quoted"', " 5 ", "", "null\n"]))
def test_text_stays_what_it_is_where_only_text_is_allowed(text: str) -> None:
    assert _read(text, {"type": "string"}) == text
    assert _read(text, {"enum": ["a", "b"]}) == text


@given(
    text=st.text(max_size=60) | st.lists(st.sampled_from(list("'\"\\[]{}(),: 1eE.-xuNTF")), max_size=40).map("".join)
)
def test_whatever_is_written_gives_json(text: str) -> None:
    for kind in _BY_TYPE:
        assume(not any("\ud800" <= char < "\ue000" for char in text))
        value = _read(text, {"type": kind})
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("written", "schema", "expected"),
    [
        ("true", {"type": ["string", "boolean"]}, True),
        ("True", {"type": ["string", "boolean"]}, True),
        ("yes", {"type": ["string", "boolean"]}, "yes"),
        ("None", {"type": ["string", "null"]}, None),
        ("5", {"type": ["string", "null"]}, "5"),
        ("5", {"type": "string", "enum": ["5", "6"]}, "5"),
        ("5", {"enum": [5, "auto"]}, 5),
        ("auto", {"enum": [5, "auto"]}, "auto"),
        ("1.5", {"enum": [1.5]}, 1.5),
        ("true", {"const": True}, True),
        ("5.0", {"type": "integer"}, 5.0),
        ("5.5", {"type": "integer"}, "5.5"),
        ("1e400", {"type": "number"}, "1e400"),
        ("NaN", {"type": "number"}, "NaN"),
        ("nan", {"type": "number"}, "nan"),
        (" 5\n", {"type": "integer"}, 5),
        ("5", {"type": "int"}, 5),
        ("{'a': [True, None], 'b': (1)}", {"type": "object"}, "{'a': [True, None], 'b': (1)}"),
        ("{'a': [True, None], \"it's\": ''}", {"type": "dict"}, {"a": [True, None], "it's": ""}),
        ("['\\n\\u00e9\\x41\\U0001f999\\'']", {"type": "list"}, ["\né\x41🦙'"]),
        ("{'a': 'half \\ud83d'}", {"type": "object"}, {"a": "half \\ud83d"}),
        ("{'a': 1", {"type": "object"}, "{'a': 1"),
        ("['a", {"type": "array"}, "['a"),
        ("{1: 2}", {"type": "object"}, "{1: 2}"),
        ("[1]", {"items": {"type": "integer"}}, [1]),
        ('{"a": 1}', {"properties": {"a": {}}}, {"a": 1}),
        ("null", {"type": "string", "nullable": True}, None),
        ("5", {"type": "whatever"}, 5),
        ("five", {"type": "whatever"}, "five"),
        ("[" * 50_000, {"type": "array"}, "[" * 50_000),
        ("9" * 5_000, {"type": "integer"}, "9" * 5_000),
        ("5", True, 5),
    ],
)  # fmt: skip
def test_what_is_written_is_read_by_the_schema(written: str, schema: Any, expected: Any) -> None:
    assert _same(_read(written, schema), expected)


@pytest.mark.parametrize("where", ["$defs", "definitions"])
def test_a_type_is_looked_up_where_the_schema_refers_to_it(where: str) -> None:
    defined = {
        where: {"Choice": {"anyOf": [{"$ref": f"#/{where}/Number"}, {"type": "null"}]}, "Number": {"type": "number"}}
    }
    refers = {"$ref": f"#/{where}/Choice"}
    assert _read("1.5", refers, **defined) == 1.5
    assert _read("null", refers, **defined) is None
    assert _read("true", refers, **defined) == "true"
    assert _read("5", {"allOf": [{"$ref": f"#/{where}/Number"}], "default": 1}, **defined) == 5


def test_a_schema_that_refers_to_itself_or_to_nothing_says_nothing() -> None:
    assert _read("5", {"$ref": "#/$defs/A"}, **{"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}) == 5
    assert _read("5", {"$ref": "#/$defs/B"}) == 5
    assert _read("5", {"$ref": "https://example.com/schema"}) == 5
    assert _read("5", {"$ref": "#/"}) == 5


def test_nothing_is_known_of_tools_that_were_not_offered() -> None:
    offered = Offered([tool("f", "d", {"x": {"type": "string"}})])
    assert offered.json_of("g", "x", "5") == offered.json_of("f", "y", "5") == Value("5")
    assert offered.json_of("f", "x", "5") == Value('"5"')
    assert offered.names == frozenset({"f"})
    assert Offered(None).names is None
