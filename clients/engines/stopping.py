"""Stop strings and stop tokens, applied here for engines that do not apply them exactly."""

from collections.abc import Sequence


class StopWatch:
    """Watches sampled tokens go by and says when one of them ends the generation.

    Args:
        stop: stop strings; they may end inside a token, which is then kept whole.
        stop_token_ids: token ids that end the generation.
    """

    def __init__(self, stop: Sequence[str], stop_token_ids: Sequence[int]) -> None:
        self._strings = [(text, text.encode()) for text in stop if text]
        self._ids = frozenset(stop_token_ids)
        self._keep = max((len(encoded) for _, encoded in self._strings), default=1) - 1
        self._tail = b""

    def sees(self, token_id: int, token_bytes: bytes) -> int | str | None:
        """What the token completed: a stop token id, a stop string, or nothing. Strings are sought in bytes, so that
        a character spread over tokens is found."""
        if token_id in self._ids:
            return token_id
        if not self._strings:
            return None
        text = self._tail + token_bytes
        self._tail = text[len(text) - self._keep :] if self._keep else b""
        found = [(at, name) for name, encoded in self._strings if (at := text.find(encoded)) >= 0]
        return min(found)[1] if found else None
