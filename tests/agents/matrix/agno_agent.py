"""agno. Arguments: route, whole or streamed, base URL of the session, model, question."""

import json
import sys
from importlib.metadata import version

from agno.agent import Agent
from agno.models.openai import OpenAIChat, OpenAIResponses
from agno.models.openai.like import OpenAILike

route, mode, url, name, question = sys.argv[1:]
kind = {"chat": OpenAIChat, "responses": OpenAIResponses, "compatible": OpenAILike}[route]


def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


agent = Agent(model=kind(id=name, base_url=f"{url}/v1", api_key="none"), tools=[weather], telemetry=False)
if mode == "streamed":
    text = "".join(event.content or "" for event in agent.run(question, stream=True) if isinstance(event.content, str))
else:
    text = agent.run(question).content or ""
print(json.dumps({"text": text, "version": version("agno")}))
