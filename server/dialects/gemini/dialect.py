"""Gemini as a dialect: its URL says what other protocols' bodies do, the model and whether the answer is streamed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tickertape.server.dialects.gemini import answers, request
from tickertape.server.turns.request import TurnRequest


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

    DIALECT: ClassVar[str] = request.DIALECT
    write_response = staticmethod(answers.write_response)
    write_count = staticmethod(answers.write_count)
    write_error = staticmethod(answers.write_error)
    stream_writer = staticmethod(answers.GeminiStream)

    def read_request(self, body: bytes) -> TurnRequest:
        return request.read_request(body, self.model, streams=self.streams)

    def read_count_request(self, body: bytes) -> TurnRequest:
        return request.read_count_request(body, self.model)
