"""Limits of what a turn may take."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """Limits of what may be asked for, beside the engine's context. ``None``: no limit."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    token_arrays: tuple[str, ...] = ()
    """Per-token extras that are asked for with every turn."""


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Limits of what a turn may take."""

    sampling: SamplingLimits = field(default_factory=SamplingLimits)
    seconds: float | None = None
    """From the request to the engine to its last token; ``None``: as long as it takes."""
    session_turns: int | None = None
    """Of one session, however they ended; ``None``: any number."""
    chunk_tokens: int = 64
    """Number of tokens that an engine sends at a time where no client reads along."""
    stream_chunk_tokens: int = 1
    """The same where a client reads along."""
