"""``response_format``, ``tool_choice``, ``parallel_tool_calls``: what the engine is told to hold to, what is refused.

That real engines hold to it is shown in ``tests/real/test_structure.py``.
"""

from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.renderers.answers import TOOLS
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer
from tickertape.clients.engines.engine import Feature, Structure, StructureKind

HELLO = [{"role": "user", "content": "Hello."}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
JSON = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
LOOK_UP, STOP = (tool for tool in TOOLS if tool["function"]["name"] in ("look_up", "stop"))
NAMED = {"type": "function", "function": {"name": "stop"}}


class GuidedEngine(ScriptedEngine):
    """Says that it has guided decoding; it plays its script all the same."""

    features = ScriptedEngine.features | {Feature.STRUCTURE}


def says(text: str) -> GuidedEngine:
    return GuidedEngine(lambda _ids, _sampling: qwen3_tokenizer().encode_like_model(text + "<|im_end|>"))


def told(proxy: Proxy, engine: GuidedEngine, session: str, **fields: Any) -> Structure | None:
    """What the engine is told with such a request, which is on tape."""
    response = proxy.chat(session, HELLO, **fields)
    assert response.status_code == 200, response.text
    structure = engine.calls[-1].sampling.structure
    taped = proxy.tape.turns(session)[-1].sampling["structure"]
    assert taped == (structure and {"kind": structure.kind.value, "value": structure.value})
    return structure


# What stands in structures, by hand.


def token(text: str) -> dict[str, Any]:
    return {"type": "token", "token": qwen3_tokenizer().control[text]}


def const(text: str) -> dict[str, Any]:
    return {"type": "const_string", "value": text}


def call(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    arguments = {"type": "json_schema", "json_schema": function["parameters"]}
    head = const(f'\n{{"name": "{function["name"]}", "arguments": ')
    return {
        "type": "sequence",
        "elements": [token("<tool_call>"), head, arguments, const("}\n"), token("</tool_call>")],
    }


THOUGHT = {
    "type": "optional",
    "content": {
        "type": "sequence",
        "elements": [
            token("<think>"),
            {
                "type": "sequence",
                "elements": [{"type": "any_tokens", "exclude_tokens": [151668, 151667]}, token("</think>")],
            },
            {"type": "regex", "pattern": "[\\n]{0,3}"},
        ],
    },
}
LEAD = {"type": "optional", "content": const("\n")}


def tagged(*elements: dict[str, Any]) -> Structure:
    return Structure(
        StructureKind.STRUCTURAL_TAG,
        {"type": "structural_tag", "format": {"type": "sequence", "elements": list(elements)}},
    )


def test_model_that_does_not_think_is_held_to_json_alone(start_proxy: StartProxy, session: str) -> None:
    engine = says('{"city": "Köln"}')
    proxy = start_proxy(engine, "qwen3-instruct-2507")
    assert told(proxy, engine, session, response_format=JSON) == Structure(StructureKind.JSON_SCHEMA, SCHEMA)
    any_object = {"type": "json_object"}
    assert told(proxy, engine, session, response_format=any_object) == Structure(StructureKind.JSON_OBJECT)
    assert told(proxy, engine, session, response_format={"type": "text"}) is None


def test_model_that_thinks_may_think_first(start_proxy: StartProxy, session: str) -> None:
    engine = says('<think>\nHm.\n</think>\n\n{"city": "Köln"}')
    proxy = start_proxy(engine)
    structure = told(proxy, engine, session, response_format=JSON)
    assert structure == tagged(THOUGHT, {"type": "json_schema", "json_schema": SCHEMA})
    silent = {"enable_thinking": False}
    structure = told(proxy, engine, session, response_format=JSON, chat_template_kwargs=silent)
    assert structure == Structure(StructureKind.JSON_SCHEMA, SCHEMA), "the prompt has closed the thought"


def test_thought_that_the_prompt_opened_is_gone_on_with(start_proxy: StartProxy, session: str) -> None:
    engine = says('Hm.\n</think>\n\n{"city": "Köln"}')
    proxy = start_proxy(engine, "qwen3-thinking-2507")
    structure = told(proxy, engine, session, response_format={"type": "json_object"})
    behind_the_tag = THOUGHT["content"]["elements"][1:]  # type: ignore[index]
    assert structure == tagged(*behind_the_tag, {"type": "json_schema", "json_schema": {"type": "object"}})


WROTE = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize("parallel", [True, False])
def test_call_that_is_required(start_proxy: StartProxy, session: str, *, parallel: bool) -> None:
    engine = says(WROTE)
    proxy = start_proxy(engine, "qwen3-instruct-2507")
    fields = {"tools": [LOOK_UP, STOP], "tool_choice": "required", "parallel_tool_calls": parallel}
    either = {"type": "or", "elements": [call(LOOK_UP), call(STOP)]}
    more = {"type": "star", "content": {"type": "sequence", "elements": [const("\n"), either]}}
    assert told(proxy, engine, session, **fields) == tagged(LEAD, either, *([more] if parallel else []))
    (turn,) = proxy.tape.turns(session)
    assert [each["status"] for each in turn.calls] == ["ok"]


def test_call_of_a_named_tool(start_proxy: StartProxy, session: str) -> None:
    engine = says(WROTE)
    proxy = start_proxy(engine, "qwen3-instruct-2507")
    structure = told(proxy, engine, session, tools=[LOOK_UP, STOP], tool_choice=NAMED, parallel_tool_calls=False)
    assert structure == tagged(LEAD, call(STOP))


def test_one_call_at_most_leaves_words_free_and_ends_behind_the_call(start_proxy: StartProxy, session: str) -> None:
    engine = says("Hello.")
    proxy = start_proxy(engine, "qwen3-instruct-2507")
    structure = told(proxy, engine, session, tools=[STOP], parallel_tool_calls=False)
    behind = {"type": "sequence", "elements": call(STOP)["elements"][1:]}
    dispatch = {"type": "dispatch", "rules": [["<tool_call>", behind]], "loop": False, "excludes": []}
    assert structure is not None
    assert structure.value["format"] == dispatch


def test_json_or_calls_where_both_may_come(start_proxy: StartProxy, session: str) -> None:
    engine = says(WROTE)
    proxy = start_proxy(engine, "qwen3-instruct-2507")
    structure = told(proxy, engine, session, tools=[STOP], response_format=JSON, parallel_tool_calls=False)
    assert structure is not None
    json_format = {"type": "json_schema", "json_schema": SCHEMA}
    called = {"type": "sequence", "elements": [LEAD, call(STOP)]}
    assert structure.value["format"] == {"type": "or", "elements": [json_format, called]}
    structure = told(proxy, engine, session, tools=[STOP], response_format=JSON, tool_choice="none")
    assert structure == Structure(StructureKind.JSON_SCHEMA, SCHEMA), "no call may come"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"parallel_tool_calls": False},
        {"tools": [STOP], "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": [STOP], "tool_choice": "auto"},
    ],
)
def test_nothing_is_guided_that_need_not_be(start_proxy: StartProxy, session: str, fields: dict[str, Any]) -> None:
    engine = says("Hello.")
    assert told(start_proxy(engine), engine, session, **fields) is None


REQUIRED = {"tools": [STOP], "tool_choice": "required"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": JSON}, "response_format"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (REQUIRED, "tool_choice"),
        ({"tools": [STOP], "tool_choice": NAMED}, "tool_choice"),
        ({"tools": [STOP], "parallel_tool_calls": False}, "parallel_tool_calls"),
    ],
)
def test_engine_without_guided_decoding_refuses(
    start_proxy: StartProxy, session: str, fields: dict[str, Any], param: str
) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [])
    _check_refused(start_proxy(engine), session, fields, param, "no guided decoding")
    assert not engine.calls


@pytest.mark.parametrize(
    ("fields", "param", "why"),
    [
        ({"response_format": JSON, "ignore_eos": True}, "response_format", "ignore_eos"),
        (REQUIRED | {"min_tokens": 5}, "tool_choice", "min_tokens"),
        (
            {"tools": [{"type": "function", "function": {"name": 'a"b'}}], "tool_choice": "required"},
            "tool_choice",
            "plain names",
        ),
    ],
)
def test_what_stands_against_a_structure_is_named(
    start_proxy: StartProxy, session: str, fields: dict[str, Any], param: str, why: str
) -> None:
    _check_refused(start_proxy(says("")), session, fields, param, why)


def _check_refused(proxy: Proxy, session: str, fields: dict[str, Any], param: str, why: str) -> None:
    response = proxy.chat(session, HELLO, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, "unsupported_value")
    assert why in error["message"]


def test_answer_that_is_gone_on_with_is_refused_a_structure(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(says("Hello there."))
    cut = proxy.chat(session, HELLO, max_tokens=1).json()["choices"][0]["message"]
    goes_on = {"continue_final_message": True, "add_generation_prompt": False, "response_format": JSON}
    response = proxy.chat(session, [*HELLO, cut], **goes_on)
    assert response.status_code == 400
    assert "gone on with" in response.json()["error"]["message"]
