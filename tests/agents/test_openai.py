"""OpenAI's own Python SDK over chat completions: whole, streamed, its stream helper and its parser, sync and async."""

from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from tests.agents.matrix.results import Ran, note
from tests.agents.playing import (
    FINAL,
    N_CALLS,
    QUESTION,
    WEATHER,
    call,
    check_one_sample,
    playing,
    said,
    weather_answers,
)
from tests.server.conftest import StartProxy
from tests.server.invariants import check_all

Ask = Callable[[openai.OpenAI, str, list[Any]], ChatCompletionMessage]
AskAsync = Callable[[openai.AsyncOpenAI, str, list[Any]], Awaitable[ChatCompletionMessage]]


def whole(client: openai.OpenAI, model: str, messages: list[Any]) -> ChatCompletionMessage:
    return client.chat.completions.create(model=model, messages=messages, tools=[WEATHER]).choices[0].message


def streamed(client: openai.OpenAI, model: str, messages: list[Any]) -> ChatCompletionMessage:
    state = ChatCompletionStreamState()
    for chunk in client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], stream=True):
        state.handle_chunk(chunk)
    return state.get_final_completion().choices[0].message


def helped(client: openai.OpenAI, model: str, messages: list[Any]) -> ChatCompletionMessage:
    """Its helper accumulates the chunks and tells events of its own; it takes strict tools alone."""
    with client.chat.completions.stream(model=model, messages=messages, tools=[Weather.tool()]) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert ("tool_calls.function.arguments.done" in kinds) == bool(message.tool_calls)
    assert ("content.done" in kinds) == bool(message.content)
    return message


async def whole_async(client: openai.AsyncOpenAI, model: str, messages: list[Any]) -> ChatCompletionMessage:
    return (await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])).choices[0].message


async def streamed_async(client: openai.AsyncOpenAI, model: str, messages: list[Any]) -> ChatCompletionMessage:
    state = ChatCompletionStreamState()
    chunks = await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], stream=True)
    async for chunk in chunks:
        state.handle_chunk(chunk)
    return state.get_final_completion().choices[0].message


async def helped_async(client: openai.AsyncOpenAI, model: str, messages: list[Any]) -> ChatCompletionMessage:
    async with client.chat.completions.stream(model=model, messages=messages, tools=[Weather.tool()]) as stream:
        async for _ in stream:
            pass
        return (await stream.get_final_completion()).choices[0].message


class Weather(BaseModel):
    town: str

    @classmethod
    def tool(cls) -> Any:
        """The same tool as :data:`WEATHER`, but strict."""
        return openai.pydantic_function_tool(cls, name="weather", description="The weather of a town.")


def gone_on(messages: list[Any], message: ChatCompletionMessage) -> None:
    """As OpenAI's documentation shows it: the SDK's message goes back as it is, then what the tools said."""
    messages.append(message)
    for asked in message.tool_calls or ():
        messages.append({"role": "tool", "tool_call_id": asked.id, "content": "It rains."})


def test_sessions_of_20_tool_turns_are_one_sample_and_streams_say_the_same(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := playing(weather_answers()))
    told = []
    for ask in (whole, streamed, helped):
        name, n_before = f"{session}-{ask.__name__}", len(engine.calls)
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        with proxy.openai(name) as client:
            for _ in range(N_CALLS + 1):
                gone_on(messages, message := ask(client, proxy.model, messages))
        assert message.content == FINAL
        turns = check_one_sample(proxy, name, engine.calls[n_before:])
        told.append(said(turns))
        way = "whole" if ask is whole else "streamed"
        note(Ran("OpenAI SDK for Python", openai.__version__, "chat", way, "run", len(turns), 1))
        _check_nothing_is_ignored_but(turns, {"tools[0].function.strict"} if ask is helped else set())
    assert told[0] == told[1] == told[2]


async def test_async_sessions_of_20_tool_turns_are_one_sample_and_streams_say_the_same(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := playing(weather_answers()))
    asks: list[AskAsync] = [whole_async, streamed_async, helped_async]
    told = []
    for k, ask in enumerate(asks):
        name, n_before = f"{session}-{k}", len(engine.calls)
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        async with openai.AsyncOpenAI(base_url=proxy.tape.agent_base_url(name), api_key="none") as client:
            for _ in range(N_CALLS + 1):
                gone_on(messages, message := await ask(client, proxy.model, messages))
        assert message.content == FINAL
        told.append(said(check_one_sample(proxy, name, engine.calls[n_before:])))
    assert told[0] == told[1] == told[2]


class Forecast(BaseModel):
    town: str
    degrees: list[int]


def parsed(client: openai.OpenAI, model: str, messages: list[Any]) -> Any:
    return (
        client.chat.completions.parse(model=model, messages=messages, tools=[Weather.tool()], response_format=Forecast)
        .choices[0]
        .message
    )


def parsed_streamed(client: openai.OpenAI, model: str, messages: list[Any]) -> Any:
    with client.chat.completions.stream(
        model=model, messages=messages, tools=[Weather.tool()], response_format=Forecast
    ) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion().choices[0].message


# The SDK's own warning, when it writes down a message that it has parsed.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_parsed_answers_are_held_to_their_model_and_go_back_as_they_are(start_proxy: StartProxy, session: str) -> None:
    forecast = Forecast(town="Köln", degrees=[3, -4])
    asks = [f"<think>\nHm.\n</think>\n\n{call('weather', town=f'Town {n}')}" for n in range(N_CALLS)]
    answers = [*asks, f"<think>\nKnown.\n</think>\n\n{forecast.model_dump_json()}"]
    proxy = start_proxy(engine := playing([*answers, answers[-1]]))
    told = []
    for ask in (parsed, parsed_streamed):
        name, n_before = f"{session}-{ask.__name__}", len(engine.calls)
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        with proxy.openai(name) as client:
            for n in range(N_CALLS):
                gone_on(messages, message := ask(client, proxy.model, messages))
                assert message.tool_calls[0].function.parsed_arguments == Weather(town=f"Town {n}")
            for _ in range(2):
                gone_on(messages, message := ask(client, proxy.model, messages))
                assert message.parsed == forecast
                messages.append({"role": "user", "content": "Again."})
        calls = engine.calls[n_before:]
        assert all(call.sampling.structure is not None for call in calls)
        turns = check_one_sample(proxy, name, calls, N_CALLS + 2)
        told.append(said(turns))
        _check_nothing_is_ignored_but(turns, {"tools[0].function.strict"})
    assert told[0] == told[1]


def test_parser_is_told_of_an_answer_that_was_cut(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := playing(['{"town": "Köln", "degrees": [3']))
    with proxy.openai(session) as client, pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model=proxy.model, messages=[{"role": "user", "content": QUESTION}], response_format=Forecast, max_tokens=4
        )
    (turn,) = check_all(proxy.tape, session, engine.calls)
    assert turn.outcome == "length"


def _check_nothing_is_ignored_but(turns: list[Any], named: set[str]) -> None:
    assert {field for turn in turns for field in turn.ignored_fields} == named
