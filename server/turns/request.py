"""The request and result that every protocol is translated into, and back from."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tickertape.clients.engines.engine import Sampling, Structure
from tickertape.renderers.draft import Delta
from tickertape.renderers.messages import Message
from tickertape.server.trajectories.turn import TokenIds, Turn

#: Whether the model is to think before it answers: it must be able to, it does if it can, or it must not.
Thinking: TypeAlias = Literal["on", "if_able", "off"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may call, and whether it must."""

    reads_calls: bool = True
    """True if tool calls in the answer are returned as such; else they stay text."""
    must_call: bool = False
    names: tuple[str, ...] = ()
    """The tools that may be called; empty: all that are offered."""
    parallel: bool = True
    """True if there may be several calls."""

    @property
    def is_free(self) -> bool:
        """Returns True if the model writes what it likes."""
        return not self.must_call and not self.names and self.parallel


#: The recorded field that counts a turn's first messages that are no part of its conversation: its instructions. Who
#: goes on from the turn brings their own.
INSTRUCTIONS = "standing_messages"


@dataclass(frozen=True, slots=True)
class Follows:
    """A conversation that is on tape and goes on."""

    turn_id: str
    name: str
    """The turn's name in the client's protocol."""
    param: str
    """The field that holds it."""


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """The parts of an answer that the client left out and the tape has, by the id of its turn."""

    turn_id: str
    content: bool
    """True if the text is missing."""
    calls: bool
    reasoning: bool
    param: str | None
    """The field in which the client refers to it; ``None`` where it only left it out, so that the turn may be
    unknown."""


@dataclass(slots=True, kw_only=True)
class TurnRequest:
    """One call of the model, in no protocol's own terms."""

    dialect: str
    model: str
    n_bytes: int = 0
    """Of the request's body: how long work on it may take."""
    body_digest: str = ""
    """Of the request's bytes, by which a retry is known; empty where there are no retries of it."""
    messages: list[Message] = field(default_factory=list)
    prompt: str | list[int] | None = None
    """In place of messages, what the model continues: text in which control tokens mean what they say, or ids."""
    prompt_ids: TokenIds | None = None
    """int32[]: the same as ids, once it was checked."""
    partial: dict[int, PartialAnswer] = field(default_factory=dict)
    """Answers among the messages that the tape completes, by their index."""
    follows: Follows | None = None
    """The turn that the messages go on from, where the client leaves its conversation out."""
    tools: list[dict[str, Any]] | None = None
    n: int = 1
    """Number of choices that are asked for."""
    continues: bool = False
    """True if the model is to continue the last message, an answer of its own that was cut."""
    tool_choice: ToolChoice = field(default_factory=lambda: ToolChoice())
    response_format: Structure | None = None
    """The form that the content must have, where the client says so."""
    format_param: str = "response_format"
    """The field that says so."""
    sampling: Sampling
    """All of it but ``max_tokens``, which depends on the prompt."""
    max_tokens: int | None = None
    """``None``: as many as the context holds."""
    template_options: dict[str, Any] = field(default_factory=dict)
    thinking: Thinking | None = None
    """``None``: as the model's template and ``template_options`` have it."""
    effort: str | None = None
    """The client's word for how hard the model is to think: a wish, which models without such a word ignore."""
    effort_param: str = ""
    """The field that says so."""
    thought_tokens: int | None = None
    """A thought that is as long and not at its end ends the answer; ``None``: it may take all of it."""
    min_version: str | None = None
    """The oldest policy version that may sample it."""
    wants_tokens: bool = False
    """True if the answer reports tokens or logprobs."""
    counts_reasoning: bool = False
    """True if the answer reports how many tokens were reasoning."""
    stream: bool = False
    """True if the answer is sent while it is sampled."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options that only the protocol itself has a use for."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields that are kept for the record."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Parts of messages that no text model reads, by their path: what each is. A text stands in the place of each."""
    ignored: list[str] = field(default_factory=list)
    """Fields that are not used, by their path: those outside the protocol, and wishes that cannot be met."""


@dataclass(slots=True, kw_only=True)
class TurnResult:
    """A turn that is on tape, and what its protocol may want to tell of it."""

    turn: Turn
    message: Message
    """The assistant's message, with call ids; of an answer that goes on, only what is new."""
    parts: list[Delta]
    """The same in the order in which it was said, each part in one piece."""
    prompt_ids: TokenIds
    """int32[]: the complete prompt."""
    reasoning_tokens: int = 0
    """Tokens of the completion that are reasoning, its tags included but the last; counted if the request says so."""
    top_logprobs: list[dict[int, float]] | None = None
