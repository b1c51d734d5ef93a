"""Stop strings and stop tokens, applied here where engines do not apply them exactly."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tickertape.clients.engines.engine import Chunk


class StopWatch:
    """Watches sampled tokens go by and says when one of them ends the generation.

    Args:
        stop: stop strings; they may end inside a token, which is then kept whole.
        stop_token_ids: token ids that end the generation.
    """

    def __init__(self, stop: Sequence[str], stop_token_ids: Sequence[int]) -> None:
        self._strings = [(text, text.encode()) for text in stop if text]
        self._ids = frozenset(stop_token_ids)
        self.reach = max((len(encoded) for _, encoded in self._strings), default=1)
        """So many tokens hold any stop string that ends with the last of them, each having a byte at least."""
        self._tail = b""

    def sees(self, token_id: int, token_bytes: bytes) -> int | str | None:
        """Returns what the token completed: a stop token id, a stop string, or nothing. Strings are sought in bytes, so
        that a character spread over tokens is found."""
        if token_id in self._ids:
            return token_id
        if not self._strings:
            return None
        text = self._tail + token_bytes
        self._tail = text[max(0, len(text) - self.reach + 1) :]
        found = [(at, name) for name, encoded in self._strings if (at := text.find(encoded)) >= 0]
        return min(found)[1] if found else None

    def first(self, token_ids: Sequence[int], token_bytes: Callable[[int], bytes]) -> tuple[int, int | str] | None:
        """Watches some tokens: which of them was the first to end the generation, by place, and what it completed."""
        for place, token_id in enumerate(token_ids):
            reason = self.sees(token_id, token_bytes(token_id))
            if reason is not None:
                return place, reason
        return None


def cut(chunk: Chunk, at: int, reason: int | str) -> Chunk:
    """The chunk up to and including the token that ended the generation."""
    tops = None if chunk.top_logprobs is None else chunk.top_logprobs[: at + 1]
    return replace(
        chunk,
        token_ids=chunk.token_ids[: at + 1],
        logprobs=chunk.logprobs[: at + 1],
        top_logprobs=tops,
        finish_reason="stop",
        stop_reason=reason,
        version_spans=None,
        token_arrays=None,
    )
