"""Real engines hold to what ``response_format``, ``tool_choice`` and ``parallel_tool_calls`` ask, through the proxy.

The model has random weights, so that nothing but the structure can make it write JSON or calls. It is biased against
white space, of which JSON may have any amount, and towards the tags of thoughts where it is to think.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel, Field

from tests.engines import RecordingEngine
from tests.real.conftest import need
from tests.real.engines import RealServer, installed
from tests.real.test_conversations import proxied
from tests.renderers.answers import may_think, offered, sampled
from tests.renderers.conftest import _one_day, subject
from tests.renderers.subjects import Subject, each
from tests.server.conftest import Proxy, qwen3_tokenizer
from tests.server.invariants import check_all
from tests.server.turns.test_structure_families import UNKNOWN, structured
from tickertape.clients.engines.engine import Structure
from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.turns.request import ToolChoice

__all__ = ["_one_day", "subject"]

pytestmark = pytest.mark.real

QUESTION: Any = [{"role": "user", "content": "What is the weather like?"}]
THINK, END_THINK = 151667, 151668
STOPS = (151645, 151643)


class Weather(BaseModel):
    """What the model is to answer with."""

    city: Literal["Köln", "Bonn"]
    degrees: int = Field(ge=-50, le=50)
    words: str = Field(pattern="^[a-z]{1,12}$")
    rains: bool


#: Any other string may hold the tags that the model is biased towards.
SHORT = {"type": "string", "pattern": "^[a-z]{1,8}$"}
GET: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Köln", "Bonn"]}, "day": SHORT},
            "required": ["city", "day"],
        },
    },
}
WAIT: Any = {
    "type": "function",
    "function": {
        "name": "wait",
        "parameters": {
            "type": "object",
            "properties": {"hours": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["hours"],
        },
    },
}
NAMED: Any = {"type": "function", "function": {"name": "wait"}}


def no_white_space() -> dict[str, int]:
    tokenizer = qwen3_tokenizer()
    return {str(i): -100 for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i).isspace()}


def thinking(thinks: bool) -> dict[str, Any]:
    """Fields for a model that thinks a few tokens, or whose prompt says that it is not to."""
    bias = no_white_space() | ({str(THINK): 100, str(END_THINK): 12} if thinks else {})
    options = {"chat_template_kwargs": {"enable_thinking": thinks}}
    return {"max_tokens": 400, "logit_bias": bias, "extra_body": options}


@pytest.fixture(scope="module")
def engine_and_proxy(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    engine, running = proxied(server, tmp_path_factory.mktemp("tape"))
    with running as proxy:
        yield engine, proxy


@pytest.fixture
def engine(engine_and_proxy: Any) -> RecordingEngine:
    """What this test asks the engine is recorded."""
    engine: RecordingEngine = engine_and_proxy[0]
    engine.calls.clear()
    return engine


@pytest.fixture
def proxy(engine_and_proxy: Any) -> Proxy:
    proxy: Proxy = engine_and_proxy[1]
    return proxy


def streamed(client: OpenAI, **fields: Any) -> ChatCompletionMessage:
    with client.chat.completions.stream(**fields) as stream:
        return stream.get_final_completion().choices[0].message


def whole(client: OpenAI, **fields: Any) -> ChatCompletionMessage:
    return client.chat.completions.create(**fields).choices[0].message


ways = pytest.mark.parametrize("ask", [whole, streamed])
thoughts = pytest.mark.parametrize("thinks", [True, False], ids=["thinking", "silent"])
Ask = Callable[..., ChatCompletionMessage]


def check_tape(proxy: Proxy, session: str, engine: RecordingEngine, *, thinks: bool, calls: int = 0) -> None:
    """The invariants hold, and the turn ended by itself, on a stop token of the model."""
    (turn,) = check_all(proxy.tape, session, engine.calls)
    assert turn.outcome == ("tool_calls" if calls else "stop")
    assert turn.completion[-1] in STOPS
    assert [each["status"] for each in turn.calls] == ["ok"] * calls
    assert (THINK in turn.completion.tolist()) is thinks
    assert (END_THINK in turn.completion.tolist()) is thinks


@thoughts
def test_parsed_answer_is_a_valid_model(proxy: Proxy, engine: RecordingEngine, session: str, *, thinks: bool) -> None:
    answer = proxy.openai(session).chat.completions.parse(
        model=proxy.model, messages=QUESTION, response_format=Weather, **thinking(thinks)
    )
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Weather)
    check_tape(proxy, session, engine, thinks=thinks)


@ways
@thoughts
def test_required_call_is_made_and_valid(
    proxy: Proxy, engine: RecordingEngine, session: str, ask: Ask, *, thinks: bool
) -> None:
    message = ask(
        proxy.openai(session),
        model=proxy.model,
        messages=QUESTION,
        tools=[GET, WAIT],
        tool_choice="required",
        parallel_tool_calls=False,
        **thinking(thinks),
    )
    (call,) = message.tool_calls or ()
    arguments = json.loads(call.function.arguments)
    if call.function.name == "wait":
        assert arguments.keys() == {"hours"}
        assert 1 <= arguments["hours"] <= 9
    else:
        assert call.function.name == "get_weather"
        assert arguments["city"] in ("Köln", "Bonn")
        assert re.fullmatch("[a-z]{1,8}", arguments["day"])
    assert not message.content
    check_tape(proxy, session, engine, thinks=thinks, calls=1)


@ways
@thoughts
def test_named_call_is_made_and_valid(
    proxy: Proxy, engine: RecordingEngine, session: str, ask: Ask, *, thinks: bool
) -> None:
    message = ask(
        proxy.openai(session),
        model=proxy.model,
        messages=QUESTION,
        tools=[GET, WAIT],
        tool_choice=NAMED,
        parallel_tool_calls=False,
        **thinking(thinks),
    )
    (call,) = message.tool_calls or ()
    assert call.function.name == "wait"
    assert json.loads(call.function.arguments)["hours"] in range(1, 10)
    check_tape(proxy, session, engine, thinks=thinks, calls=1)


def test_several_calls_come_where_they_may_and_one_where_not(
    proxy: Proxy, engine: RecordingEngine, session: str
) -> None:
    """The stop token is made unlikely: the model calls until it must stop, by the grammar or by its budget."""
    fields = thinking(False)
    del fields["logit_bias"]["198"]  # the newline that stands between calls
    fields["logit_bias"] |= {str(stop): -100 for stop in STOPS}
    client, tools = proxy.openai(session), [WAIT]
    asked: Any = {"model": proxy.model, "messages": QUESTION, "tools": tools, "tool_choice": "required"} | fields
    several = client.chat.completions.create(**asked).choices[0]
    assert len(several.message.tool_calls or ()) > 2
    assert several.finish_reason == "length"
    one = client.chat.completions.create(**asked, parallel_tool_calls=False).choices[0]
    assert len(one.message.tool_calls or ()) == 1
    assert one.finish_reason == "tool_calls"
    assert engine.calls[-1].token_ids[-1] in STOPS


def test_one_call_at_most_in_a_free_answer(proxy: Proxy, engine: RecordingEngine, session: str) -> None:
    """The tag of calls is made all but certain: without the structure there would be nothing but tags."""
    fields = thinking(False)
    fields["logit_bias"] |= {"151657": 12} | {str(stop): -100 for stop in STOPS}
    choice = proxy.openai(session).chat.completions.create(
        model=proxy.model, messages=QUESTION, tools=[WAIT], parallel_tool_calls=False, **fields
    )
    (call,) = choice.choices[0].message.tool_calls or ()
    assert call.function.name == "wait"
    assert choice.choices[0].finish_reason == "tool_calls"
    assert engine.calls[-1].token_ids[-1] in STOPS


def test_schema_that_cannot_be_held_to_is_refused(proxy: Proxy, session: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "no such type"}}, "required": ["a"]}
    asked = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    response = proxy.chat(session, QUESTION, response_format=asked, max_tokens=8)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["code"] == "engine_refused"


# What families write, by xgrammar's own matcher. It is installed with the engines, not here.


class Matcher:
    """``xgrammar_matcher.py`` in vLLM's environment."""

    def __init__(self, directory: Path) -> None:
        command = [str(installed("vllm") / "bin" / "python"), str(Path(__file__).parent / "xgrammar_matcher.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self._directory = directory
        self._written: dict[int, Path] = {}

    def accepted(self, subject: Subject, structure: Structure, token_ids: list[int]) -> int:
        """How many of the tokens are accepted."""
        stop_ids = subject.exact.get_stop_sequences()
        asked = {"vocabulary": str(self._vocabulary(subject)), "stop_ids": stop_ids, "token_ids": token_ids}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asked | {"structure": structure.value}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "accepted" in answer, answer
        return int(answer["accepted"])

    def _vocabulary(self, subject: Subject) -> Path:
        tokenizer = subject.tokenizer
        if id(tokenizer) not in self._written:
            path = self._written[id(tokenizer)] = self._directory / f"{len(self._written)}.json"
            path.write_text(
                json.dumps([tokenizer.token_bytes(i).decode("latin-1") for i in range(tokenizer.vocab_size)])
            )
        return self._written[id(tokenizer)]

    def end(self) -> None:
        self._process.communicate(timeout=20)  # which closes its pipes


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matcher]:
    need("vllm")
    matcher = Matcher(tmp_path_factory.mktemp("vocabularies"))
    yield matcher
    matcher.end()


#: Seed-OSS writes lists as Python does; what is guided writes JSON, which is read alike.
VALUES = {"a_0": "two words", "a_1": -7, "a_2": 0.5, "a_3": True, "a_4": [], "a_5": {}}
CALLS = {"look_up": {"text": "two words"}, "set_all": VALUES, "stop": {}}


@pytest.mark.slow
@each
def test_official_calls_are_what_the_structure_allows(subject: Subject, matcher: Matcher) -> None:
    if not subject.limits.calls or subject.family.startswith(UNKNOWN):
        return
    before = [Message("user", "Hello.")]
    structure = structured(subject, ToolChoice(must_call=True))

    def written(text: str = "", **calls: dict[str, Any]) -> list[int]:
        made = tuple(
            ToolCall(name, json.dumps(arguments), subject.limits.call_id(name, k))
            for k, (name, arguments) in enumerate(calls.items())
        )
        thought = "Hm." if may_think(subject, before) else None
        return sampled(subject.exact, Message("assistant", text, thought, made), before, offered(subject))

    right = [{name: arguments} for name, arguments in CALLS.items()]
    for calls in [*right, *([CALLS] if subject.limits.parallel and subject.family != "gpt-oss" else [])]:
        ids = written(**calls)
        assert matcher.accepted(subject, structure, ids) == len(ids), subject.tokenizer.decode(ids)
    stop_id = subject.exact.get_stop_sequences()[0]
    for wrong in [written("Just words."), written(look_down=CALLS["look_up"]), [stop_id]]:
        assert matcher.accepted(subject, structure, wrong) < len(wrong), subject.tokenizer.decode(wrong)
