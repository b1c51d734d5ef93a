"""strands. Arguments: route, whole or streamed, base URL of the session, model, question."""

import json
import sys
from importlib.metadata import version
from typing import Any

from strands import Agent, tool

route, mode, url, name, question = sys.argv[1:]


def model() -> Any:
    match route:
        case "chat":
            from strands.models.openai import OpenAIModel

            args = {"base_url": f"{url}/v1", "api_key": "none"}
            return OpenAIModel(client_args=args, model_id=name, streaming=mode == "streamed")
        case "responses":
            from strands.models.openai_responses import OpenAIResponsesModel

            return OpenAIResponsesModel(client_args={"base_url": f"{url}/v1", "api_key": "none"}, model_id=name)
        case "messages":
            from strands.models.anthropic import AnthropicModel

            return AnthropicModel(client_args={"base_url": url, "api_key": "none"}, model_id=name, max_tokens=500)
        case _:
            from strands.models.gemini import GeminiModel

            return GeminiModel(client_args={"api_key": "none", "http_options": {"base_url": url}}, model_id=name)


@tool
def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


result = Agent(model=model(), tools=[weather], callback_handler=None)(question)
print(json.dumps({"text": str(result), "version": version("strands-agents")}))
