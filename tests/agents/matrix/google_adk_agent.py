"""Google's agent development kit. Arguments: route, whole or streamed, base URL of the session, model, question."""

import asyncio
import json
import sys
from importlib.metadata import version

from google.adk.agents import Agent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.genai import types

route, mode, url, name, question = sys.argv[1:]


def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


async def main() -> None:
    agent = Agent(name="reporter", model=Gemini(model=name, base_url=url), instruction="Be brief.", tools=[weather])
    runner = InMemoryRunner(agent, app_name="weather")
    session = await runner.session_service.create_session(app_name="weather", user_id="u")
    config = RunConfig(streaming_mode=StreamingMode.SSE if mode == "streamed" else StreamingMode.NONE)
    message = types.Content(role="user", parts=[types.Part(text=question)])
    said = ""
    async for event in runner.run_async(user_id="u", session_id=session.id, new_message=message, run_config=config):
        if event.is_final_response() and event.content and event.content.parts:
            said = "".join(part.text or "" for part in event.content.parts if not part.thought)
    print(json.dumps({"text": said, "version": version("google-adk")}))


asyncio.run(main())
