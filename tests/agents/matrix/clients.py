"""The clients that scripts of this folder run, and where each gets what it needs."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.agents.environment import closed_environ, python_environment, run
from tests.npm import npm_packages

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Client:
    """A client, and how it is run."""

    name: str
    script: str
    """In this folder; it takes a route, a mode, a base URL, a model and a question, and writes a line of JSON in the
    end: ``text``, the last answer, and ``version``."""
    packages: tuple[str, ...]
    modes: Mapping[str, tuple[str, ...]]
    """By route, as the script knows them: whole, streamed."""
    python: str = ""
    """The version of Python that it needs."""
    models: Mapping[str, str] = field(default_factory=dict)
    """By route, the model's name, where it decides on the route; else it is ``MODEL``."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """By route, a call that the client makes beside its conversation: a sample of its own, and why."""

    def command(self, work: Path) -> list[str]:
        """What runs the script in an empty folder; installs what it needs."""
        script = _FOLDER / self.script
        if script.suffix == ".py":
            return [str(python_environment(*self.packages, python=self.python) / "python"), str(script)]
        (work / "node_modules").symlink_to(npm_packages(*self.packages))
        shutil.copy(script, work)
        return [shutil.which("node") or "node", str(work / script.name)]

    def run(self, work: Path, *arguments: str, seconds: int = 150) -> str:
        """What it writes."""
        work.mkdir(exist_ok=True)
        environ = closed_environ(work / "home") | {"PYTHONWARNINGS": "ignore", "GOOGLE_API_KEY": "none"}
        return run([*self.command(work), *arguments], environ, work, seconds)


#: A vendor's own name: clients send more to models that they know.
MODEL = "gpt-5.5"
_WHOLE, _STREAMED = ("whole",), ("streamed",)
_BOTH = (*_WHOLE, *_STREAMED)
CLIENTS = (
    Client(
        "pydantic-ai",
        "pydantic_ai_agent.py",
        ("pydantic-ai-slim[openai,anthropic,google]==2.68.0",),
        {"chat": _BOTH, "responses": _BOTH, "messages": _BOTH, "gemini": _BOTH},
    ),
    Client(
        "agno",
        "agno_agent.py",
        ("agno==3.1.10", "openai==3.57.0"),
        {"chat": _BOTH, "responses": _BOTH, "compatible": _BOTH},
    ),
    Client(
        "LlamaIndex",
        "llama_index_agent.py",
        ("llama-index-core==0.14.25", "llama-index-llms-openai-like==0.8.1"),
        {"chat": _BOTH},
    ),
    Client(
        "strands",
        "strands_agent.py",
        ("strands-agents[openai,anthropic,gemini]==1.62.0",),
        {"chat": _BOTH, "responses": _STREAMED, "messages": _STREAMED, "gemini": _STREAMED},
    ),
    Client(
        "inspect-ai",
        "inspect_agent.py",
        ("inspect-ai==0.3.285", "openai==3.57.0", "anthropic==2.14.0", "google-genai"),
        {"chat": _WHOLE, "responses": _WHOLE, "compatible": _BOTH, "messages": _BOTH, "gemini": _WHOLE},
        aside={"responses": "it tries the model out first, with `Please say 'hello, world'`"},
    ),
    Client("google-adk", "google_adk_agent.py", ("google-adk==2.13.0",), {"gemini": _BOTH}),
    Client(
        "OpenHands SDK",
        "openhands_agent.py",
        ("openhands-sdk==1.58.2",),
        {"chat": _BOTH, "responses": _BOTH},
        python="3.12",
        models={"chat": "tuned"},
    ),
    Client(
        "Vercel AI SDK",
        "vercel_agent.mjs",
        (
            *("ai@7.0.173", "@ai-sdk/openai@4.0.118", "@ai-sdk/anthropic@4.0.105"),
            *("@ai-sdk/openai-compatible@3.0.92", "zod@4"),
        ),
        {"responses": _BOTH, "chat": _BOTH, "messages": _BOTH, "compatible": _BOTH},
    ),
    Client(
        "LangChain.js",
        "langchain_agent.mjs",
        ("langchain@1.5.14", "@langchain/openai@1.6.0", "@langchain/core", "zod@4"),
        {"chat": _BOTH, "responses": _BOTH},
    ),
    Client("Anthropic SDK for JavaScript", "anthropic_agent.mjs", ("@anthropic-ai/sdk@1.14.0",), {"messages": _BOTH}),
)
