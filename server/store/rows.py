"""Turns as rows and back."""

from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import orjson

from tickertape.server.trajectories.turn import Outcome, Turn

_PLAIN = (
    "id", "session_id", "seq", "parent_id", "created_at", "dialect", "first_message", "tools_digest", "context_digest",
)  # fmt: skip
#: In the words of clients and engines.
_TEXTS = ("model", "error", "engine", "finish_reason", "fork_reason")
_JSON = (
    "messages", "sampling", "template_options", "request_fields", "ignored_fields", "response", "calls", "stop_reason",
    "usage", "timings", "digests", "logprob_kind",
)  # fmt: skip
_plain_of, _texts_of, _json_of = attrgetter(*_PLAIN), attrgetter(*_TEXTS), attrgetter(*_JSON)
_INT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<f4")


class Layout(NamedTuple):
    """The structure of a turn's tokens: all that samples need of it beside them. Kept by itself, since the words that
    the rest of a turn is made of are larger than its tokens."""

    versions: list[tuple[str | None, int]]
    prompt_spans: list[tuple[int, int, int]]
    roles: list[str]
    """Of the messages that the turn adds."""

    def packed(self) -> bytes:
        return orjson.dumps(list(self))

    @classmethod
    def read(cls, packed: bytes) -> "Layout":
        """Runs and spans are lists, not tuples."""
        return cls(*orjson.loads(packed))


def to_row(turn: Turn, options_digest: str) -> dict[str, Any]:
    """The columns of ``turns``."""
    row = dict(zip(_PLAIN, _plain_of(turn), strict=True))
    row |= zip(_TEXTS, map(_holdable, _texts_of(turn)), strict=True)
    row["outcome"] = turn.outcome.value
    row["options_digest"] = options_digest
    roles = [message["role"] for message in turn.messages]
    row["layout"] = Layout(turn.versions, turn.prompt_spans, roles).packed()
    row["prompt_delta"] = turn.prompt_delta.astype(_INT32, copy=False).tobytes()
    row["completion"] = turn.completion.astype(_INT32, copy=False).tobytes()
    row["logprobs"] = turn.logprobs.astype(_FLOAT32, copy=False).tobytes()
    row["rest"] = orjson.dumps(dict(zip(_JSON, _json_of(turn), strict=True)), option=orjson.OPT_NON_STR_KEYS)
    return row


def from_row(row: Any, tools: bytes | None) -> Turn:
    """The turn of a row, with the JSON of its tools."""
    rest = orjson.loads(row.rest)
    layout = Layout.read(row.layout)
    rest["prompt_spans"] = [tuple(span) for span in layout.prompt_spans]
    rest["versions"] = [tuple(run) for run in layout.versions]
    return Turn(
        **{name: getattr(row, name) for name in (*_PLAIN, *_TEXTS)},
        **rest,
        outcome=Outcome(row.outcome),
        tools=None if tools is None else orjson.loads(tools),
        prompt_delta=np.frombuffer(row.prompt_delta, _INT32),
        completion=np.frombuffer(row.completion, _INT32),
        logprobs=np.frombuffer(row.logprobs, _FLOAT32),
    )


def _holdable(text: str | None) -> str | None:
    """A text with what no database's text can hold spelled out: lone surrogates, and NUL, which PostgreSQL's cannot.
    A turn that was sampled must not be lost for the words of its error."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
