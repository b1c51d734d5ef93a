"""The ways in which a turn ends."""

from enum import StrEnum


class Outcome(StrEnum):
    """The way in which a turn ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    PARSE_FAILED = "parse_failed"
    """The model wrote tool calls, and none of them could be read."""
    ABORTED = "aborted"
    """The engine, or this server's shutdown, broke off the generation."""
    ENGINE_ERROR = "engine_error"
    UNDELIVERED = "undelivered"
    """The client went away before the answer was there."""
    REJECTED = "rejected"
    """The request was refused before anything was sampled."""
    REPLAYED = "replayed"
    """A client's retry, which got the answer of the turn that is its parent. It has no tokens."""
