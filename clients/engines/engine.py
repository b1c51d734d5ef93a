"""The interface of an engine to the rest: a prompt of token ids in, chunks of sampled tokens out.

To add an engine, write a folder beside the others, with a class derived from :class:`Engine`; nothing else knows
engines' wire formats. ``docs/engines.md`` says what must hold, step by step.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tickertape.clients.engines.errors import EngineCannot

TokenIds: TypeAlias = npt.NDArray[np.int32]


class StructureKind(StrEnum):
    """The language in which a :class:`Structure` is written."""

    JSON_SCHEMA = "json_schema"
    """``value`` is a JSON schema."""
    JSON_OBJECT = "json_object"
    """Any JSON object; ``value`` is not used."""
    REGEX = "regex"
    GRAMMAR = "grammar"
    """An EBNF grammar, as xgrammar reads it."""
    CHOICE = "choice"
    """``value`` is a list of strings, one of which is written."""
    STRUCTURAL_TAG = "structural_tag"
    """xgrammar's ``{"type": "structural_tag", "format": …}``."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The form that the completion must have; engines hold to it by guided decoding."""

    kind: StructureKind
    value: Any = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """The parameters of sampling. Every value is sent to the engine explicitly: engines' own defaults differ, and some
    come from the model's ``generation_config.json``."""

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
    """All tokens that end a turn: the engine's own idea of an end-of-sequence token is not relied on."""
    ignore_eos: bool = False
    min_tokens: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int = 0
    """Number of alternatives to report for each token, beside the sampled one."""
    structure: Structure | None = None
    adapter: str | None = None
    """The LoRA adapter to sample with, by the engine's name for it; ``None``: the model itself."""
    token_arrays: tuple[str, ...] = ()
    """Per-token extras to ask for, such as ``routed_experts``; only what the engine's features name."""


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
    """The version of the weights that sampled these tokens, where the engine reports it with them."""
    version_spans: list[tuple[str | None, int]] | None = None
    """``(policy_version, n_tokens)`` runs over the complete completion, in the last chunk alone, where the engine
    reports them; they replace what the chunks said. ``None`` for tokens sampled before the weights had a version."""
    cached_tokens: int | None = None
    """Number of the prompt's tokens that the engine had in its prefix cache, where it says so."""
    token_arrays: Mapping[str, npt.NDArray[Any]] | None = None
    """Per-token extras by name, in the last chunk alone."""


class LogprobKind(StrEnum):
    """The distribution that an engine's logprobs are of."""

    RAW = "raw"
    """Of the model's own distribution, before temperature, penalties, bias and truncation."""
    PROCESSED = "processed"
    """After temperature and bias."""


class Feature(StrEnum):
    """An ability of an engine beyond sampling."""

    VERSIONS = "versions"
    """It reports the weights' version with what it samples."""
    PAUSE = "pause"
    """It can hold its requests, and be ordered to go on: :meth:`Engine.pause`, :meth:`Engine.resume`."""
    SCORE = "score"
    """:meth:`Engine.score` works."""
    STRUCTURE = "structure"
    """It holds to ``Sampling.structure``."""
    CACHED_TOKENS = "cached_tokens"
    CHUNKS = "chunks"
    """It sends tokens in chunks of as many as are asked for: ``chunk_tokens`` of :meth:`Engine.generate`."""
    ABORT = "abort"
    """A request can be aborted by its id, and gives out what was sampled."""
    MIN_TOKENS = "min_tokens"
    ROUTED_EXPERTS = "routed_experts"
    """The token array ``routed_experts`` can be asked for."""
    SAMPLING_MASK = "sampling_mask"
    """The token array ``sampling_mask`` can be asked for."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine's description of itself."""

    name: str
    """Its kind: ``vllm``, ``sglang``, …"""
    url: str
    model: str
    max_context: int
    """Prompt and completion together, in tokens."""
    version: str = ""
    """Of its software."""
    endpoint: str = ""
    """The endpoint at which it is asked for tokens."""
    logprobs: LogprobKind = LogprobKind.RAW
    adapters: tuple[str, ...] = ()
    """LoRA adapters that it serves beside the model."""
    features: frozenset[Feature] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)
    """Features and other things that were tried out and are not there, and why not."""

    @property
    def summary(self) -> str:
        """A line for people."""
        through = f", asked through {self.endpoint}" if self.endpoint else ""
        return f"at {self.url}: {self.model}, {self.max_context} tokens of context{through}"


class PauseMode(StrEnum):
    """Ways to treat the requests that an engine has when it is paused."""

    KEEP = "keep"
    """It holds them, and continues them when it is resumed."""
    ABORT = "abort"
    """It ends them with finish reason ``abort`` and the tokens that they have."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A sequence as an engine read it in one prefill."""

    token_ids: list[int]
    """The token ids that it read: its echo of the sequence."""
    logprobs: list[float]
    """For each token, its logprob given those before it, raw; NaN for the first."""


class Engine(ABC):
    """An engine. One whose method for a :class:`Feature` is not overridden does not have the feature."""

    @abstractmethod
    async def start(self) -> EngineInfo:
        """Connects, and finds out what is served there. Called again after the engine was away.

        Raises:
            EngineError: it cannot be reached, or answers something else than it should.
        """

    @abstractmethod
    async def check(self) -> None:
        """Raises :class:`EngineError` if the engine cannot serve now. Quick, and sampling nothing."""

    @abstractmethod
    def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        """Samples a completion. Closing the iterator aborts it at the engine, by id where that is needed.

        Args:
            prompt_ids: int32[n]; all within the vocabulary.
            sampling: complete, see there.
            request_id: not used for any other generation.
            chunk_tokens: how many tokens a chunk may hold. An engine with :attr:`Feature.CHUNKS` sends the first token
                and the end at once and the others in chunks of so many, which costs both sides less; when it is
                cancelled it gives out what was sampled, where the server allows that, before it raises.

        Raises:
            EngineError: by its kind: refused, unavailable, or an answer that makes no sense.
        """

    @abstractmethod
    async def close(self) -> None:
        """Frees connections, and the engine itself where it was started here."""

    async def policy_version(self) -> str | None:
        """Returns the version of its weights, as it was given it; ``None`` where it does not know."""
        return None

    async def pause(self, mode: PauseMode) -> None:
        """Stops sampling until :meth:`resume`.

        Raises:
            EngineCannot: it has no such thing.
        """
        raise EngineCannot(f"this engine cannot be paused (mode {mode})")

    async def resume(self) -> None:
        """Goes on after :meth:`pause`."""
        raise EngineCannot("this engine cannot be paused")

    async def score(self, token_ids: Sequence[int], *, adapter: str | None = None) -> Scored:
        """Reads a sequence in one prefill.

        Raises:
            EngineCannot: it cannot give logprobs of a prompt.
        """
        raise EngineCannot(f"this engine gives no logprobs of a prompt ({len(token_ids)} tokens, adapter {adapter})")
