"""pydantic-ai. Arguments: route, whole or streamed, base URL of the session, model, question."""

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

route, mode, url, name, question = sys.argv[1:]


def model() -> Any:
    match route:
        case "chat":
            return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
        case "responses":
            return OpenAIResponsesModel(name, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
        case "messages":
            return AnthropicModel(name, provider=AnthropicProvider(base_url=url, api_key="none"))
        case _:
            return GoogleModel(name, provider=GoogleProvider(base_url=url, api_key="none"))


agent = Agent(model(), instructions="Be brief.", retries=5)


@agent.tool_plain
def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


async def read(_context: Any, events: Any) -> None:
    async for _ in events:
        pass


async def main() -> None:
    result = await agent.run(question, event_stream_handler=read if mode == "streamed" else None)
    print(json.dumps({"text": result.output, "version": version("pydantic-ai-slim")}))


asyncio.run(main())
