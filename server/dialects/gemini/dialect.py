"""Gemini as a dialect: its URL says what other protocols' bodies do, the model and whether the answer is streamed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.dialects.gemini import answers, request
from tickertape.server.errors import ProxyError
from tickertape.server.turns.request import TurnRequest, TurnResult

write_error = answers.write_error
write_model = answers.write_model


def is_spoken(path: str, headers: Mapping[str, str]) -> bool:
    """Returns True if a call that may be of any protocol is of this one: Google's clients say who they are."""
    return "/v1beta/" in path or "x-goog-api-key" in headers or "x-goog-api-client" in headers


@dataclass(frozen=True, slots=True)
class Gemini:
    """The protocol as one URL asks for it.

    Args:
        model: the model's name, without ``models/``.
        streams: whether the answer is streamed.
    """

    model: str
    streams: bool = False

    @property
    def DIALECT(self) -> str:  # noqa: N802  (as other dialects' constant)
        return request.DIALECT

    def read_request(self, body: bytes) -> TurnRequest:
        return request.read_request(body, self.model, streams=self.streams)

    def read_count_request(self, body: bytes) -> TurnRequest:
        return request.read_count_request(body, self.model)

    def write_response(self, asked: TurnRequest, results: Sequence[TurnResult], tokenizer: Tokenizer) -> dict[str, Any]:
        return answers.write_response(asked, results, tokenizer)

    def write_count(self, count: int) -> dict[str, Any]:
        return answers.write_count(count)

    def stream_writer(self, asked: TurnRequest, tokenizer: Tokenizer) -> answers.GeminiStream:
        return answers.GeminiStream(asked, tokenizer)

    def write_error(self, error: ProxyError) -> dict[str, Any]:
        return write_error(error)
