"""What every protocol is translated into, and back from."""

from dataclasses import dataclass, field
from typing import Any

from tickertape.clients.engines.engine import Sampling, Structure
from tickertape.renderers.messages import Message
from tickertape.server.trajectories.turn import Turn


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may call, and whether it must."""

    reads_calls: bool = True
    """Whether tool calls in the answer are returned as such; else they stay text."""
    must_call: bool = False
    names: tuple[str, ...] = ()
    """The tools that may be called; empty: all that are offered."""
    parallel: bool = True
    """Whether there may be several calls."""

    @property
    def is_free(self) -> bool:
        """Whether the model writes what it likes."""
        return not self.must_call and not self.names and self.parallel


@dataclass(slots=True, kw_only=True)
class TurnRequest:
    """One call of the model, in no protocol's own terms."""

    dialect: str
    model: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    n: int = 1
    """How many choices are asked for."""
    continues: bool = False
    """Whether the model is to go on with the last message, an answer of its own that was cut."""
    tool_choice: ToolChoice = field(default_factory=lambda: ToolChoice())
    response_format: Structure | None = None
    """What the content must look like, where the client says so."""
    sampling: Sampling
    """All of it but ``max_tokens``, which depends on the prompt."""
    max_tokens: int | None = None
    """``None``: as many as the context holds."""
    template_options: dict[str, Any] = field(default_factory=dict)
    min_version: str | None = None
    """The oldest policy version that may sample it."""
    wants_tokens: bool = False
    """Whether the answer tells tokens or logprobs."""
    stream: bool = False
    """Whether the answer is sent while it is sampled."""
    options: dict[str, Any] = field(default_factory=dict)
    """What only the protocol itself has a use for."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields that are kept for the record."""
    ignored: list[str] = field(default_factory=list)
    """Fields outside the protocol, by their path."""


@dataclass(slots=True, kw_only=True)
class TurnResult:
    """A turn that is on tape, and what its protocol may want to tell of it."""

    turn: Turn
    message: Message
    """What the assistant said, with call ids; of an answer that goes on, only what is new."""
    prompt_tokens: int
    top_logprobs: list[dict[int, float]] | None = None
