"""An agent on LiteLLM, run with LiteLLM's own environment: ``litellm_agent.py MODE MODEL API_BASE MESSAGES TOOLS``.

It answers tool calls until there is none and prints the whole conversation as JSON. Modes: ``whole``, ``streamed``,
``async``, ``async-streamed``.
"""

import asyncio
import json
import sys
from typing import Any

import litellm


async def ask(mode: str, **request: Any) -> Any:
    """The answer's message."""
    if mode == "whole":
        return litellm.completion(**request).choices[0].message
    if mode == "async":
        return (await litellm.acompletion(**request)).choices[0].message
    if mode == "streamed":
        chunks = list(litellm.completion(**request, stream=True))
    else:
        chunks = [chunk async for chunk in await litellm.acompletion(**request, stream=True)]
    return litellm.stream_chunk_builder(chunks).choices[0].message


async def main(mode: str, model: str, api_base: str, messages: list[Any], tools: list[Any]) -> None:
    while True:
        message = await ask(mode, model=f"openai/{model}", api_base=api_base, messages=messages, tools=tools)
        messages.append(message)
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            town = json.loads(call.function.arguments)["town"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"It rains in {town}."})
    print(json.dumps([m if isinstance(m, dict) else m.model_dump() for m in messages]))


if __name__ == "__main__":
    mode, model, api_base, messages, tools = sys.argv[1:]
    asyncio.run(main(mode, model, api_base, json.loads(messages), json.loads(tools)))
