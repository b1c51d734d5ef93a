"""Chat completions' own ways to say things: parts of content, choices of tools, vLLM's fields."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.agents.playing import GuidedPlayer, playing
from tests.renderers.answers import TOOLS
from tests.server.conftest import Proxy, scripted
from tickertape.server.dialects.chat.request import read_request
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import TurnRequest

HELLO = [{"role": "user", "content": "Hello"}]
NAMES = [tool["function"]["name"] for tool in TOOLS]


def read(**fields: Any) -> TurnRequest:
    return read_request(json.dumps({"model": "m", "messages": HELLO, **fields}).encode())


def test_parts_of_other_protocols_are_read_for_what_they_are() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    said = {"type": "output_text", "text": "Hi.", "annotations": []}
    messages = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"role": "assistant", "content": [thought, said]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Ha.", "signature": "s"}]},
    ]
    request = read(messages=messages)
    assert [(m.content, m.reasoning) for m in request.messages] == [("Hello", None), ("Hi.", "Hm."), (None, "Ha.")]
    assert request.ignored == []


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_some_tools_may_be_allowed_alone(mode: str) -> None:
    choice = read(tools=TOOLS, tool_choice=allowed(mode, *NAMES[:2])).tool_choice
    assert (choice.names, choice.must_call) == (tuple(NAMES[:2]), mode == "required")


@pytest.mark.parametrize(
    "choice",
    [
        allowed("auto"),
        allowed("auto", "no_such_tool"),
        allowed("sometimes", NAMES[0]),
        {"type": "allowed_tools"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [3]}},
    ],
)
def test_a_choice_of_no_tools_is_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="tool_choice"):
        read(tools=TOOLS, tool_choice=choice)


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, GuidedPlayer]]:
    engine = playing(["<think>\nHm.\n</think>\n\nParis"])
    with scripted(engine, tmp_path_factory.mktemp("tape")) as proxy:
        yield proxy, engine


#: What the engine is told where the template has closed the thought, so that the structure is the whole answer.
STRUCTURES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"json": {"type": "object"}}, {"kind": "json_schema", "value": {"type": "object"}}),
    ({"json": '{"type": "object"}'}, {"kind": "json_schema", "value": {"type": "object"}}),
    ({"json_object": True}, {"kind": "json_object", "value": None}),
    ({"regex": "[a-z]+"}, {"kind": "regex", "value": "[a-z]+"}),
    ({"choice": ["yes", "no"]}, {"kind": "choice", "value": ["yes", "no"]}),
    ({"grammar": 'root ::= "x"'}, {"kind": "grammar", "value": 'root ::= "x"'}),
]


@pytest.mark.parametrize(("asked", "told"), STRUCTURES, ids=[next(iter(asked)) for asked, _ in STRUCTURES])
def test_structured_outputs_are_held_to(
    guided: tuple[Proxy, GuidedPlayer], session: str, asked: dict[str, Any], told: dict[str, Any]
) -> None:
    proxy, _ = guided
    closed = {"chat_template_kwargs": {"enable_thinking": False}}
    assert proxy.chat(session, HELLO, structured_outputs=asked, **closed).status_code == 200
    assert proxy.tape.turns(session)[0].sampling["structure"] == told


def test_a_choice_behind_a_thought_spells_no_control_tokens(guided: tuple[Proxy, GuidedPlayer], session: str) -> None:
    proxy, _ = guided
    assert proxy.chat(session, HELLO, structured_outputs={"choice": ["a.b", "<|im_end|>"]}).status_code == 200
    structure = proxy.tape.turns(session)[0].sampling["structure"]
    assert structure["kind"] == "structural_tag"
    assert {"type": "regex", "pattern": r"a\.b|<\|im_end\|>"} in structure["value"]["format"]["elements"]


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {}},
        {"structured_outputs": {"regex": "x", "choice": ["y"]}},
        {"structured_outputs": {"regex": "x"}, "response_format": {"type": "json_object"}},
    ],
)
def test_structured_outputs_that_are_not_one_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == "structured_outputs"


def test_a_grammar_beside_a_thought_is_refused_by_name(guided: tuple[Proxy, GuidedPlayer], session: str) -> None:
    proxy, _ = guided
    answer = proxy.chat(session, HELLO, structured_outputs={"grammar": 'root ::= "x"'})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "structured_outputs")


def test_token_ids_are_told_whole_and_streamed(guided: tuple[Proxy, GuidedPlayer], session: str) -> None:
    proxy, engine = guided
    calls = engine.calls = []
    whole = proxy.chat(session, HELLO, return_token_ids=True).json()
    assert whole["prompt_token_ids"] == calls[0].prompt_ids
    assert whole["choices"][0]["token_ids"] == calls[0].token_ids
    assert whole["choices"][0]["logprobs"] is None
    lines = proxy.chat(f"{session}-2", HELLO, return_token_ids=True, stream=True).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [i for chunk in chunks for i in chunk["choices"][0].get("token_ids", ())] == calls[1].token_ids
    assert [chunk["prompt_token_ids"] for chunk in chunks if "prompt_token_ids" in chunk] == [calls[1].prompt_ids]
