"""smolagents' agent that calls tools. Arguments: route, whole or streamed, base URL of the session, model, question."""

import json
import sys
from importlib.metadata import version

from smolagents import OpenAIModel, ToolCallingAgent, tool

route, mode, url, name, question = sys.argv[1:]


@tool
def weather(town: str) -> str:
    """The weather of a town.

    Args:
        town: its name.
    """
    return f"It rains in {town}."


model = OpenAIModel(model_id=name, api_base=f"{url}/v1", api_key="none")
agent = ToolCallingAgent(tools=[weather], model=model, verbosity_level=0, stream_outputs=mode == "streamed")
print(json.dumps({"text": str(agent.run(question)), "version": version("smolagents")}))
