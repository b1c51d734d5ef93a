"""inspect-ai: its loop of a model and tools. Arguments: route, whole or streamed, base URL, model, question."""

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any

from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model
from inspect_ai.tool import Tool, tool

route, mode, url, name, question = sys.argv[1:]


@tool
def weather() -> Tool:
    async def execute(town: str) -> str:
        """The weather of a town.

        Args:
            town: Its name.
        """
        return f"It rains in {town}."

    return execute


def model() -> Any:
    streams: dict[str, Any] = {"stream": True} if mode == "streamed" else {}
    match route:
        case "chat":
            return get_model(f"openai/{name}", base_url=f"{url}/v1", api_key="none", responses_api=False, **streams)
        case "responses":
            return get_model(f"openai/{name}", base_url=f"{url}/v1", api_key="none", responses_api=True, **streams)
        case "compatible":
            return get_model(f"openai-api/tickertape/{name}", base_url=f"{url}/v1", api_key="none", **streams)
        case "messages":
            streams = {"streaming": mode == "streamed"}
            return get_model(f"anthropic/{name}", base_url=url, api_key="none", **streams)
        case _:
            return get_model(f"google/{name}", base_url=url, api_key="none")


async def main() -> None:
    config = GenerateConfig(max_tokens=500)
    _, output = await model().generate_loop([ChatMessageUser(content=question)], tools=[weather()], config=config)
    print(json.dumps({"text": output.completion, "version": version("inspect-ai")}))


asyncio.run(main())
