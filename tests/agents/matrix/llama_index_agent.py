"""LlamaIndex's function agent. Arguments: route, whole or streamed, base URL of the session, model, question."""

import asyncio
import json
import sys
from importlib.metadata import version

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

route, mode, url, name, question = sys.argv[1:]


def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


async def main() -> None:
    model = OpenAILike(
        model=name, api_base=f"{url}/v1", api_key="none", is_chat_model=True, is_function_calling_model=True,
        context_window=100_000,
    )  # fmt: skip
    agent = FunctionAgent(tools=[weather], llm=model, streaming=mode == "streamed", timeout=60)
    result = await agent.run(question)
    print(json.dumps({"text": str(result), "version": version("llama-index-core")}))


asyncio.run(main())
