"""The tokens that engines have sampled so far in one turn, and how a generation is resumed from there."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from tickertape.clients.engines.engine import Chunk, Sampling
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.token_arrays import TokenArrays

#: Seeds are 64 bits, with a sign.
_SEEDS = 2**63


@dataclass(slots=True)
class Completion:
    """The tokens that engines have sampled in one turn: chunks, joined. It stays valid wherever an engine breaks
    off."""

    n_prompt: int
    """Tokens of the prompt."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[dict[int, float]] = field(default_factory=list)
    versions: list[tuple[str | None, int]] = field(default_factory=list)
    cached_tokens: int | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    _arrays: TokenArrays = field(init=False)
    _n_before: int = 0

    def __post_init__(self) -> None:
        self._arrays = TokenArrays(self.n_prompt)

    def begin_request(self) -> None:
        """An engine is asked for all that is left; its chunks come next."""
        self._n_before = len(self.token_ids)

    def take(self, chunk: Chunk, version: str | None = None) -> None:
        """Adds a chunk; tokens are stamped with the version that sampled them.

        Args:
            chunk: what an engine has sent.
            version: of the weights at this time, for an engine that does not say.

        Raises:
            EngineNonsense: its token arrays are not of these tokens; all else of it is added.
        """
        self.token_ids += chunk.token_ids
        self.logprobs += chunk.logprobs
        self.tops += chunk.top_logprobs or ()
        if chunk.token_ids:
            self._stamp(chunk.policy_version or version, len(chunk.token_ids))
        if chunk.version_spans:
            stamped = self._unstamp(sum(n_tokens for _, n_tokens in chunk.version_spans))
            for spanned, n_tokens in chunk.version_spans:
                for known, n in _front(
                    stamped, n_tokens
                ):  # where the engine itself does not know, what was known stays
                    self._stamp(spanned or known, n)
        if self.cached_tokens is None:  # of the first request, if there were several
            self.cached_tokens = chunk.cached_tokens
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.stop_reason = chunk.stop_reason if chunk.stop_reason is not None else self.stop_reason
        if chunk.token_arrays:
            aborted = chunk.finish_reason is None
            n_sampled = len(self.token_ids)
            self._arrays.take(chunk.token_arrays, n_before=self._n_before, n_sampled=n_sampled, aborted=aborted)

    def _stamp(self, version: str | None, n_tokens: int) -> None:
        if self.versions and self.versions[-1][0] == version:
            n_tokens += self.versions.pop()[1]
        self.versions.append((version, n_tokens))

    def _unstamp(self, n_tokens: int) -> list[tuple[str | None, int]]:
        """Takes back the stamps of the last so many tokens: their runs."""
        taken: list[tuple[str | None, int]] = []
        while n_tokens > 0:
            version, run = self.versions.pop()
            if run > n_tokens:
                self.versions.append((version, run - n_tokens))
            taken.append((version, min(run, n_tokens)))
            n_tokens -= run
        return taken[::-1]

    def record_on(self, turn: Turn) -> None:
        """Writes the completion and how it ended into ``turn``."""
        turn.completion = np.array(self.token_ids, np.int32)
        turn.logprobs = np.array(self.logprobs, np.float32)
        turn.versions = list(self.versions)
        turn.token_arrays = self._arrays.of_turn(n_delta=len(turn.prompt_delta), n_sampled=len(self.token_ids))
        turn.finish_reason = self.finish_reason
        turn.stop_reason = self.stop_reason


def _front(runs: list[tuple[str | None, int]], n_tokens: int) -> Iterator[tuple[str | None, int]]:
    """The runs over the first so many tokens, which are taken out."""
    while n_tokens > 0:
        version, run = runs.pop(0)
        if run > n_tokens:
            runs.insert(0, (version, run - n_tokens))
        yield version, min(run, n_tokens)
        n_tokens -= run


def can_resume(sampling: Sampling) -> bool:
    """Returns True if a generation that is broken off can be continued by asking for the rest, with nothing changed. A
    grammar would begin anew, and these penalties count completions only."""
    return sampling.structure is None and not sampling.presence_penalty and not sampling.frequency_penalty


def rest_of(sampling: Sampling, n_sampled: int) -> Sampling:
    """Returns what to ask for after so many tokens: the rest of the budget. The seed moves on, as the same one would
    draw the same numbers again."""
    if not n_sampled:
        return sampling
    return replace(
        sampling,
        max_tokens=sampling.max_tokens - n_sampled,
        min_tokens=max(0, sampling.min_tokens - n_sampled),
        seed=None if sampling.seed is None else (sampling.seed + n_sampled * 1_000_003) % _SEEDS,
    )
