"""The interface of a protocol: its JSON ⇄ our requests, results and events. Each module beside this one is one."""

from collections.abc import Sequence
from typing import Any, Protocol

from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.errors import ProxyError
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.request import TurnRequest, TurnResult
from tickertape.server.turns.stream_buffer import Sampled


class StreamWriter(Protocol):
    """Writes one answer as server-sent events."""

    def open(self, turns: Sequence[Turn]) -> bytes:
        """Returns what comes first, for the turns of each choice."""

    def write(self, news: Sequence[Sampled]) -> bytes:
        """Returns events for what the choices have grown by."""

    def close(self, results: Sequence[TurnResult]) -> bytes:
        """The end. The turns are on tape."""

    def fail(self, error: ProxyError) -> bytes:
        """The end of an answer that did not get to its own."""

    def heartbeat(self) -> bytes:
        """Says that the connection lives while there is nothing to say."""


class Dialect(Protocol):
    """An agent protocol."""

    @property
    def DIALECT(self) -> str:  # noqa: N802  (a module's constant)
        """Its name on the tape."""

    def read_request(self, body: bytes) -> TurnRequest:
        """
        Raises:
            InvalidRequest: it is not JSON, a field has the wrong type or value, or a field cannot be honoured.
        """

    def write_response(
        self, request: TurnRequest, results: Sequence[TurnResult], tokenizer: Tokenizer
    ) -> dict[str, Any]:
        """Returns the complete answer."""

    def stream_writer(self, request: TurnRequest, tokenizer: Tokenizer) -> StreamWriter:
        """A writer for an answer to ``request``, which asked for a stream."""

    def write_error(self, error: ProxyError) -> dict[str, Any]:
        """The protocol's own error shape."""


class CountsPrompts(Dialect, Protocol):
    """A protocol by which agents can ask how many tokens a prompt has."""

    def read_count_request(self, body: bytes) -> TurnRequest:
        """
        Raises:
            InvalidRequest: as :meth:`Dialect.read_request`.
        """

    def write_count(self, count: int) -> dict[str, Any]:
        """The answer."""
