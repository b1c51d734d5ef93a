"""LangChain's ``ChatOpenAI``, the real one, works by changing its ``base_url``."""

from importlib.metadata import version
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.agents.matrix.results import Ran, note
from tests.agents.playing import FINAL, N_CALLS, QUESTION, check_one_sample, playing, said, weather_answers
from tests.server.conftest import Proxy, StartProxy
from tests.server.invariants import check_all


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would send runs to a service where the environment asks for it."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@tool
def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


def chat_model(proxy: Proxy, session: str, model: str = "tuned") -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=proxy.tape.agent_base_url(session), api_key="none", max_retries=0)


Model = Runnable[Any, AIMessage]


def added_up(chunks: list[AIMessageChunk]) -> AIMessage:
    """As its documentation has it: chunks are messages that can be added."""
    message = chunks[0]
    for chunk in chunks[1:]:
        message += chunk
    return message


async def ask(model: Model, messages: list[BaseMessage], mode: str) -> AIMessage:
    if mode == "whole":
        return model.invoke(messages)
    if mode == "async":
        return await model.ainvoke(messages)
    if mode == "streamed":
        return added_up(list(model.stream(messages)))  # type: ignore[arg-type]
    return added_up([chunk async for chunk in model.astream(messages)])  # type: ignore[misc]


@pytest.mark.parametrize("model_name", ["tuned", "gpt-5", "o3"])
async def test_sessions_of_20_tool_turns_are_one_sample_and_streams_say_the_same(
    start_proxy: StartProxy, session: str, model_name: str
) -> None:
    proxy = start_proxy(engine := playing(weather_answers()), served_model_names=("*",))
    told, heard = [], []
    for mode in ("whole", "streamed", "async", "async-streamed"):
        name, n_before = f"{session}-{mode}", len(engine.calls)
        model = chat_model(proxy, name, model_name).bind_tools([weather])
        messages: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage(QUESTION)]
        while True:
            messages.append(message := await ask(model, messages, mode))
            if not message.tool_calls:
                break
            messages += [weather.invoke(call) for call in message.tool_calls]
        assert message.text == FINAL
        turns = check_one_sample(proxy, name, engine.calls[n_before:])
        assert [turn.ignored_fields for turn in turns] == [[]] * (N_CALLS + 1)
        told.append(said(turns))
        way = "streamed" if "stream" in mode else "whole"
        note(Ran("LangChain", version("langchain-openai"), "chat", way, "run", len(turns), 1))
        answers = [message for message in messages if isinstance(message, AIMessage)]
        heard.append([(answer.text, [(c["name"], c["args"]) for c in answer.tool_calls]) for answer in answers])
    assert told[0] == told[1] == told[2] == told[3]
    assert heard[0] == heard[1] == heard[2] == heard[3]


class Forecast(BaseModel):
    town: str
    degrees: list[int]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_is_held_to(start_proxy: StartProxy, session: str, method: Any) -> None:
    forecast = Forecast(town="Köln", degrees=[3])
    called = f'<tool_call>\n{{"name": "Forecast", "arguments": {forecast.model_dump_json()}}}\n</tool_call>'
    proxy = start_proxy(
        engine := playing([called if method == "function_calling" else forecast.model_dump_json()]),
        served_model_names=("*",),
    )
    model = chat_model(proxy, session).with_structured_output(Forecast, method=method)
    assert model.invoke(QUESTION) == forecast
    (turn,) = check_all(proxy.tape, session, engine.calls)
    assert engine.calls[0].sampling.structure is not None
    assert turn.ignored_fields == []


def test_reasoning_effort_that_the_template_does_not_read_is_named_as_ignored(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(playing([FINAL]), renderer="template")
    model = ChatOpenAI(
        model=proxy.model, base_url=proxy.tape.agent_base_url(session), api_key="none", reasoning_effort="low"
    )
    assert model.invoke(QUESTION).text == FINAL
    (turn,) = proxy.tape.turns(session)
    assert (turn.ignored_fields, turn.request_fields["reasoning_effort"]) == (["reasoning_effort"], "low")
