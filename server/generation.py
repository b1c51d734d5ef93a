"""What an engine has sampled so far in one turn."""

from dataclasses import dataclass, field

import numpy as np

from tickertape.clients.engines.engine import Chunk
from tickertape.server.trajectories.turn import Turn


@dataclass(slots=True)
class Generation:
    """The chunks of one generation, joined. It stays valid wherever the engine breaks off."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[dict[int, float]] = field(default_factory=list)
    versions: list[tuple[str | None, int]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def take(self, chunk: Chunk) -> None:
        """Adds a chunk; tokens are stamped with the version that sampled them."""
        self.token_ids += chunk.token_ids
        self.logprobs += chunk.logprobs
        self.tops += chunk.top_logprobs or ()
        if chunk.token_ids:
            version, n_tokens = chunk.policy_version, len(chunk.token_ids)
            if self.versions and self.versions[-1][0] == version:
                n_tokens += self.versions.pop()[1]
            self.versions.append((version, n_tokens))
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.stop_reason = chunk.stop_reason if chunk.stop_reason is not None else self.stop_reason

    def record_on(self, turn: Turn) -> None:
        """Writes the completion and how it ended into ``turn``."""
        turn.completion = np.array(self.token_ids, np.int32)
        turn.logprobs = np.array(self.logprobs, np.float32)
        turn.versions = list(self.versions)
        turn.finish_reason = self.finish_reason
        turn.stop_reason = self.stop_reason
