"""What a structure allows is what the model's own format reads: as calls of the right tools, or as JSON.

Tokens are made from the structure alone, by taking it at its word; each family reads them back.
"""

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from tests.renderers.answers import TOOLS
from tests.renderers.strategies import slow
from tests.renderers.subjects import SUBJECTS, Subject, every, first
from tickertape.clients.engines.engine import EngineInfo, Feature, Sampling, Structure, StructureKind
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import ToolChoice, TurnRequest
from tickertape.server.turns.structure import structure_of

HELLO = [{"role": "user", "content": "Hello."}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GUIDED = EngineInfo("guided", "", "", 4096, features=frozenset({Feature.STRUCTURE}))
#: Families whose calls no grammar is known for.
UNKNOWN = ("gemma4",)


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Subject:
    """A model that a test names with ``indirect=True``."""
    named = SUBJECTS[request.param]
    assert named.tokenizer  # read here, where a vocabulary that cannot be fetched skips the test
    return named


def structured(subject: Subject, choice: ToolChoice, response_format: Structure | None = None) -> Structure:
    request = TurnRequest(
        dialect="chat",
        model="m",
        messages=[],
        tools=TOOLS,
        tool_choice=choice,
        response_format=response_format,
        sampling=Sampling(max_tokens=1),
    )
    structure = structure_of(request, subject.exact, prompt_of(subject), GUIDED)
    assert structure is not None
    return structure


def prompt_of(subject: Subject) -> list[int]:
    return subject.exact.build_generation_prompt(HELLO).token_ids


def written(structure: Structure, tokenizer: Tokenizer, rng: Random) -> list[int]:
    """Tokens that a structure allows."""
    if structure.kind is not StructureKind.STRUCTURAL_TAG:
        return tokenizer.encode_text('{"city": "Köln"}')
    ids: list[int] = []
    text = ""
    for piece in _walk(structure.value["format"], rng):
        if isinstance(piece, int):
            ids += [*tokenizer.encode_text(text), piece]
            text = ""
        else:
            text += piece
    for part in tokenizer.split_control(text):  # a dispatch is told tags as text
        ids += [tokenizer.control[part]] if part in tokenizer.control else tokenizer.encode_text(part)
    return ids


def _walk(format_: dict[str, Any], rng: Random) -> Iterator[str | int]:
    match format_["type"]:
        case "token":
            yield format_["token"]
        case "const_string":
            yield format_["value"]
        case "regex":
            yield {"[a-zA-Z0-9]{9}": "abc123XYZ", "[0-9]{1,4}": "3"}.get(format_["pattern"], "")
        case "json_schema":
            yield json.dumps(_value(format_["json_schema"]))
        case "any_tokens" | "any_text":
            yield "some words"
        case "tag":
            yield format_["begin"]
            yield from _walk(format_["content"], rng)
            yield format_["end"]
        case "sequence":
            for element in format_["elements"]:
                yield from _walk(element, rng)
        case "or":
            yield from _walk(rng.choice(format_["elements"]), rng)
        case "optional" | "star":
            if rng.random() < 0.5:
                yield from _walk(format_["content"], rng)
        case "dispatch":
            tag, behind = rng.choice(format_["rules"])
            yield "Well. " + tag
            yield from _walk(behind, rng)
        case other:
            raise AssertionError(other)


def _value(schema: dict[str, Any]) -> Any:
    match schema["type"]:
        case "object":
            return {key: _value(each) for key, each in schema.get("properties", {}).items()}
        case "array":
            return [_value(schema["items"])]
    return {"string": "two words", "integer": -7, "number": 0.5, "boolean": True}[schema["type"]]


def _check_family(subject: Subject, seeds: Sequence[int]) -> None:
    limits, renderer = subject.limits, subject.exact
    asked = [(ToolChoice(must_call=True, parallel=limits.parallel), 1, None)]
    asked += [(ToolChoice(must_call=True, names=("stop",), parallel=False), 1, None)]
    asked += [(ToolChoice(), 0, Structure(StructureKind.JSON_SCHEMA, SCHEMA))]
    if subject.family not in ("llama3.1", "llama3.2"):
        asked += [(ToolChoice(parallel=False), 0, None)]
    for choice, least, response_format in asked:
        structure = structured(subject, choice, response_format)
        for seed in seeds:
            ids = [*written(structure, subject.tokenizer, Random(seed)), *renderer.get_stop_sequences()[:1]]
            parsed = renderer.parse_response(ids, TOOLS, prompt_ids=prompt_of(subject))
            shown = (choice, seed, subject.tokenizer.decode(ids))
            assert parsed.complete, shown
            assert [each.status for each in parsed.calls] == [CallStatus.OK] * len(parsed.tool_calls), shown
            assert len(parsed.tool_calls) >= least, shown
            assert choice.parallel or len(parsed.tool_calls) <= 1, shown
            assert not choice.must_call or not parsed.content, shown
            assert {c.name for c in parsed.tool_calls} <= set(choice.names or ("look_up", "set_all", "stop")), shown
            for made in parsed.tool_calls:
                expected = next(t["function"]["parameters"] for t in TOOLS if t["function"]["name"] == made.name)
                assert set(json.loads(made.arguments_json)) <= set(expected["properties"]), shown
                if made.name == "set_all" and "a_1" in made.arguments_json:
                    assert json.loads(made.arguments_json)["a_1"] == -7, shown
            if response_format and not parsed.tool_calls:
                assert json.loads(parsed.content) == {"city": "two words"}, shown


def _describes(subject: Subject) -> bool:
    return subject.limits.calls and not subject.family.startswith(UNKNOWN)


@first
def test_what_a_structure_allows_is_read_as_calls(subject: Subject) -> None:
    if _describes(subject):
        _check_family(subject, range(6))


@slow
@every
def test_what_a_structure_allows_is_read_as_calls_thoroughly(subject: Subject, pytestconfig: pytest.Config) -> None:
    if _describes(subject):
        _check_family(subject, range(pytestconfig.getoption("messages") // 5))


def test_calls_that_no_grammar_is_known_for_are_refused_and_json_is_not() -> None:
    subject = SUBJECTS["gemma4"]
    with pytest.raises(InvalidRequest, match="no grammar is known") as caught:
        structured(subject, ToolChoice(must_call=True))
    assert caught.value.param == "tool_choice"
    with pytest.raises(InvalidRequest, match="no grammar is known") as caught:
        structured(subject, ToolChoice(), Structure(StructureKind.JSON_OBJECT))
    assert caught.value.param == "response_format"
    structured(subject, ToolChoice(reads_calls=False), Structure(StructureKind.JSON_OBJECT))


def test_calls_that_begin_like_words_cannot_be_counted() -> None:
    with pytest.raises(InvalidRequest, match="cannot be counted") as caught:
        structured(SUBJECTS["llama3.1"], ToolChoice(parallel=False))
    assert caught.value.param == "parallel_tool_calls"
