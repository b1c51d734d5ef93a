"""What an engine is to the rest: a prompt of token ids in, chunks of sampled tokens out.

To add an engine, write one module with a class that has these methods; nothing else knows engines' wire formats.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

TokenIds: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. Every value is sent to the engine explicitly: engines' own defaults differ, and some come from
    the model's ``generation_config.json``."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    """-1: no limit."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int = 0
    """How many alternatives to report for each token, beside the sampled one."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some sampled tokens. The chunks of one generation, joined, are its completion."""

    token_ids: list[int]
    """In order, the stop token included where the engine sampled it."""
    logprobs: list[float]
    """One for each token; NaN where the engine gave none."""
    top_logprobs: list[dict[int, float]] | None = None
    """For each token, alternatives by token id, if asked for."""
    finish_reason: str | None = None
    """``stop``, ``length`` or ``abort``, in the last chunk alone."""
    stop_reason: int | str | None = None
    """The stop token id or stop string that ended the generation, where the engine names it."""
    policy_version: str | None = None
    """The version of the weights that sampled these tokens, where the engine reports it."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself."""

    name: str
    url: str
    model: str
    max_context: int
    """Prompt and completion together, in tokens."""


class Engine(Protocol):
    """An engine, reached over HTTP."""

    async def start(self) -> EngineInfo:
        """Connects, and finds out what is served there.

        Raises:
            EngineError: it cannot be reached, or answers something else than it should.
        """

    async def check(self) -> None:
        """Raises :class:`EngineError` if the engine cannot serve now."""

    def generate(self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str) -> AsyncGenerator[Chunk, None]:
        """Samples a completion. Closing the iterator aborts it at the engine.

        Raises:
            EngineError: by its kind: refused, unavailable, or an answer that makes no sense.
        """

    async def close(self) -> None:
        """Frees connections, and the engine itself where it was started here."""
