"""The OpenHands SDK with its default settings. Arguments: route, whole or streamed, base URL, model, question."""

import json
import sys
from importlib.metadata import version
from typing import Any

from openhands.sdk import LLM, Agent, Conversation, MessageEvent, Tool
from openhands.sdk.tool import Action, Observation, ToolDefinition, ToolExecutor, register_tool
from pydantic import SecretStr

route, mode, url, name, question = sys.argv[1:]


class WeatherAction(Action):
    town: str


class WeatherObservation(Observation):
    pass


class Look(ToolExecutor):
    def __call__(self, action: WeatherAction, conversation: Any = None) -> WeatherObservation:
        return WeatherObservation.from_text(text=f"It rains in {action.town}.")


class WeatherTool(ToolDefinition[WeatherAction, WeatherObservation]):
    name = "weather"

    @classmethod
    def create(cls, conv_state: Any = None) -> list["WeatherTool"]:
        return [
            cls(
                description="The weather of a town.",
                action_type=WeatherAction,
                observation_type=WeatherObservation,
                executor=Look(),
            )
        ]


register_tool("weather", WeatherTool)
streams = mode == "streamed"
model = LLM(model=f"openai/{name}", base_url=f"{url}/v1", api_key=SecretStr("none"), stream=streams)
said: list[str] = []


def listen(event: Any) -> None:
    if isinstance(event, MessageEvent) and event.source == "agent":
        said.extend(content.text for content in event.llm_message.content if content.type == "text")


conversation = Conversation(
    agent=Agent(llm=model, tools=[Tool(name="weather")]),
    workspace=".",
    callbacks=[listen],
    visualizer=None,
    token_callbacks=[lambda _chunk: None] if streams else None,
)
conversation.send_message(question)
conversation.run()
print(json.dumps({"text": said[-1] if said else "", "version": version("openhands-sdk")}))
