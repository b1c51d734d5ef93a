"""The common parts of vLLM's and SGLang's answers.

SGLang took its ``weight_versions`` and the version of unversioned weights over from vLLM. Both spell minus infinity as
a number that JSON has: vLLM -9999.0, SGLang the smallest float32.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

#: The version of weights that were never given a version.
UNVERSIONED = "default"

_NO_LOGPROB = -9999.0
#: A logprob above 0 by no more than this is a kernel's rounding; beyond, it is none.
_ROUNDING = 1e-3


def known_version(told: Any) -> str | None:
    """A policy version as an engine tells it."""
    return None if told in (None, UNVERSIONED) else str(told)


def logprob(value: Any) -> float:
    """A logprob as an engine tells it; NaN for one that is missing or that of an impossible token.

    Raises:
        TypeError: it is something else than a number or null.
        ValueError: it is above 0.
    """
    if value is None:
        return math.nan
    if type(value) not in (float, int):
        raise TypeError(f"a logprob that is no number: {value!r}")
    if value > _ROUNDING:
        raise ValueError(f"a logprob above 0, as logits for logprobs have (--logprobs-mode): {value!r}")
    return math.nan if value <= _NO_LOGPROB else float(value)


def logprobs(values: list[float | None]) -> list[float]:
    """Reads the logprobs of several tokens, each as :func:`logprob` does; they are numbers or null already.

    Raises:
        ValueError: one is above 0.
    """
    read = [math.nan if value is None or value <= _NO_LOGPROB else value for value in values]
    for value in read:
        if value > _ROUNDING:
            raise ValueError(f"a logprob above 0, as logits for logprobs have (--logprobs-mode): {value!r}")
    return read


def best(alternatives: Iterable[tuple[int, Any]], count: int) -> dict[int, float]:
    """The ``count`` likeliest of ``(token id, logprob)``, without those that are impossible."""
    possible = [(token, value) for token, told in alternatives if not math.isnan(value := logprob(told))]
    return dict(sorted(possible, key=lambda item: -item[1])[:count])


def version_spans(told: Iterable[dict[str, Any]], n_tokens: int) -> list[tuple[str | None, int]] | None:
    """Runs over the completion out of ``[{"version", "start", "end"}]``; ``None`` for tokens of weights without a
    version, and where no token has one.

    Raises:
        ValueError: they have a gap, or are of another number of tokens.
        LookupError, TypeError: they are of another shape.
    """
    spans: list[tuple[str | None, int]] = []
    at = 0
    for span in told:
        if span["start"] != at or span["end"] < at:
            raise ValueError("weight_versions with a gap")
        at = span["end"]
        spans.append((known_version(span["version"]), at - span["start"]))
    if at != n_tokens:
        raise ValueError(f"weight_versions of {at} tokens out of {n_tokens}")
    return spans if any(name is not None for name, _ in spans) else None


def padded(rows: list[list[int]]) -> npt.NDArray[np.int32]:
    """Rows of token ids as int32[n_rows, n_widest], filled up with -1."""
    array = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array
