"""Real clients of Responses: OpenAI's SDK, whole, streamed and asynchronous, and OpenAI's agents SDK."""

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.agents.matrix.results import Ran, note
from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer
from tests.server.invariants import check_all
from tickertape.clients.engines.engine import Sampling

if TYPE_CHECKING:  # its import takes seconds, of every run that collects this file
    from agents import Agent

TURNS = 20


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def weather_engine() -> ScriptedEngine:
    """Asks for the weather of one town after the other, and speaks in the end."""

    def script(_ids: list[int], _sampling: Sampling) -> list[int]:
        n = (len(engine.calls) - 1) % TURNS
        if n == TURNS - 1:
            return encode("<think>\nAll known.\n</think>\n\nIt rains everywhere.<|im_end|>")
        call = json.dumps({"name": "weather", "arguments": {"town": f"Town {n}"}})
        return encode(f"<think>\nNext.\n</think>\n\n<tool_call>\n{call}\n</tool_call><|im_end|>")

    engine = ScriptedEngine(script, max_context=100_000)
    return engine


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}


def test_openai_sdk_runs_a_session_of_whole_and_streamed_answers(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := weather_engine())
    client = proxy.openai(session)
    history: list[Any] = [{"role": "user", "content": "How is the weather?"}]
    for n in range(TURNS):
        if n % 2:
            response: Any = client.responses.create(model=proxy.model, input=history, tools=[WEATHER])
        else:
            with client.responses.stream(model=proxy.model, input=history, tools=[WEATHER]) as stream:
                kinds = [event.type for event in stream]
                response = stream.get_final_response()
            assert kinds[0] == "response.created"
            assert kinds[-1] == "response.completed"
        calls = [item for item in response.output if item.type == "function_call"]
        history += response.output
        history += [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
    assert response.output_text == "It rains everywhere."
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * TURNS
    assert len(proxy.tape.samples(session)) == 1


async def test_async_sdk_follows_previous_responses(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := weather_engine())
    async with openai.AsyncOpenAI(base_url=proxy.tape.agent_base_url(session), api_key="none") as client:
        asked: Any = "How is the weather?"
        previous = None
        for _ in range(4):
            stream = await client.responses.create(
                model=proxy.model, input=asked, previous_response_id=previous, tools=[WEATHER], stream=True
            )
            events = [event async for event in stream]
            response = events[-1].response  # type: ignore[union-attr]
            previous = response.id
            asked = [{"type": "function_call_output", "call_id": response.output[-1].call_id, "output": "rain"}]  # type: ignore[union-attr]
        stored = await client.responses.retrieve(previous)
        assert stored.output == response.output
        await client.responses.delete(previous)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(previous)
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.parent_id for turn in turns] == [None, *(turn.id for turn in turns[:-1])]


def test_sdk_knows_errors_by_their_type(start_proxy: StartProxy, session: str) -> None:
    client = start_proxy(weather_engine()).openai(session)
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="no-such-model", input="Hello")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="scripted", input="Hello", background=True)
    assert refused.value.param == "background"


class _Towns:
    """What an agent asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def agent(self, proxy: Proxy, session: str, client: openai.AsyncOpenAI) -> "Agent[None]":
        from agents import Agent, OpenAIResponsesModel, function_tool

        @function_tool
        def weather(town: str) -> str:
            """The weather of a town."""
            self.asked.append(town)
            return f"It rains in {town}."

        model = OpenAIResponsesModel(model=proxy.model, openai_client=client)
        return Agent(name="Weather", instructions="You know the weather.", tools=[weather], model=model)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("keeps", ["history", "id"])
async def test_openai_agents_run_of_20_turns_is_one_sample(
    start_proxy: StartProxy, session: str, keeps: str, streams: bool
) -> None:
    from agents import RunConfig, Runner

    proxy = start_proxy(engine := weather_engine())
    towns = _Towns()
    config = RunConfig(tracing_disabled=True)
    # It leaves the conversation out by itself where it is told to go on from response to response.
    chained: dict[str, Any] = {"auto_previous_response_id": True} if keeps == "id" else {}
    async with openai.AsyncOpenAI(base_url=proxy.tape.agent_base_url(session), api_key="none") as client:
        agent = towns.agent(proxy, session, client)
        run: Any
        if streams:
            run = Runner.run_streamed(agent, "How is the weather?", max_turns=30, run_config=config, **chained)
            async for _ in run.stream_events():
                pass
        else:
            run = await Runner.run(agent, "How is the weather?", max_turns=30, run_config=config, **chained)
    assert run.final_output == "It rains everywhere."
    assert towns.asked == [f"Town {n}" for n in range(TURNS - 1)]
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * TURNS
    if keeps == "id":
        assert all(turn.request_fields["previous_response_id"] for turn in turns[1:])
    assert len(proxy.tape.samples(session)) == 1
    way = "streamed" if streams else "whole"
    note(Ran("OpenAI Agents SDK", version("openai-agents"), "responses", way, "run", len(turns), 1))
