"""A turn: one call of the model, the unit of the tape.

A session is one rollout; its turns form a forest of append-only, immutable nodes. A turn's *stream* is everything that
the model has read and written up to its end::

    stream(turn) = stream(parent) + prompt_delta + completion

so a session's storage grows linearly with its length, and a child's prompt begins with its parent's stream by
construction (PREFIX).
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tickertape.server.trajectories.outcomes import Outcome as Outcome

TokenIds: TypeAlias = npt.NDArray[np.int32]
Logprobs: TypeAlias = npt.NDArray[np.float32]

#: ``(message, kind, n_tokens)`` runs: which message tokens come from (index into the request's messages, -1 for none)
#: and their :class:`tickertape.renderers.pieces.Kind`.
Spans: TypeAlias = list[tuple[int, int, int]]


def no_tokens() -> TokenIds:
    return np.empty(0, np.int32)


def no_logprobs() -> Logprobs:
    return np.empty(0, np.float32)


@dataclass(slots=True, kw_only=True)
class Turn:
    """One turn, complete. Never changed after it is committed."""

    id: str
    session_id: str
    parent_id: str | None = None
    seq: int = 0
    """Order of commitment within the session, from 0; given by the tape when it is committed."""
    created_at: float
    """Seconds since the epoch at which the request came in."""

    dialect: str
    model: str
    """The model that the client asked for."""
    first_message: int = 0
    """Number of the request's messages that the parent's stream already covers."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """The other ones, in OpenAI's chat shape: what this turn adds to the conversation."""
    tools: list[dict[str, Any]] | None = None
    tools_digest: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    """Every sampling parameter as sent to the engine."""
    template_options: dict[str, Any] = field(default_factory=dict)
    """``chat_template_kwargs`` of the request."""
    request_fields: dict[str, Any] = field(default_factory=dict)
    """Fields that are kept for the record and change nothing (``user``, ``metadata``, …)."""
    ignored_fields: list[str] = field(default_factory=list)
    """Fields outside the protocol, which were not used."""

    prompt_delta: TokenIds = field(default_factory=no_tokens)
    """int32[]: tokens added to the parent's stream before generation."""
    prompt_spans: Spans = field(default_factory=list)
    """Runs over ``prompt_delta``."""
    completion: TokenIds = field(default_factory=no_tokens)
    """int32[]: sampled tokens, stop token included when the engine sampled it."""
    logprobs: Logprobs = field(default_factory=no_logprobs)
    """float32[]: one for each completion token, NaN where the engine gave none."""
    versions: list[tuple[str | None, int]] = field(default_factory=list)
    """``(policy_version, n_tokens)`` runs over the completion; ``None`` where no version is known."""
    logprob_kind: str = ""
    """The kind of the logprobs: ``raw``, of the model's own distribution, or ``processed``, of what was sampled
    from."""
    token_arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Per-token extras of the engine by name, such as ``routed_experts``; on tape beside the turn, in no JSON; empty
    in a turn that was read back. ``server/turns/token_arrays.py`` says which tokens the rows are of."""

    outcome: Outcome
    response: dict[str, Any] | None = None
    """The answer as the client got it, in OpenAI's chat shape whatever its protocol."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Status and raw text of every tool call that the model wrote."""
    error: str | None = None
    engine: str = ""
    finish_reason: str | None = None
    """The engine's."""
    stop_reason: int | str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds: ``prepare``; ``engine``, of which ``queue`` until an engine had it and ``first_token`` until that was
    there, both from the same start; ``parse`` after it; ``total`` up to the commit."""
    fork_reason: str | None = None
    """The reason why this turn does not simply extend the newest one; ``None`` where it does."""
    context_digest: bytes = b""
    """Digest of the conversation up to and including the response; empty where there is no answer to extend."""
    digests: dict[str, str] = field(default_factory=dict)
    """By which later requests are distinguished: ``request`` of all the request's messages, ``answer`` of the response
    alone, ``line`` of its longest line; ``body`` of the request's bytes, where its session was named."""

    @property
    def is_continuation(self) -> bool:
        """Returns True if it continues an answer that was cut, so that nothing was added before it."""
        return self.parent_id is not None and not len(self.prompt_delta)

    @property
    def answer_index(self) -> int:
        """The answer's place among the messages of a request that repeats it."""
        return self.first_message + len(self.messages) - self.is_continuation
