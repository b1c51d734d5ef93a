"""The answers of Tinker's SDK, and its failures.

Shapes are those of ``tinker`` 0.38: ``types/sample_response.py``, ``types/sampled_sequence.py``, ``_exceptions.py``.
"""

import math
from collections.abc import Sequence
from typing import Any

from tickertape.clients.engines.answers import best, logprob
from tickertape.clients.engines.engine import Chunk, Sampling, Scored
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineRefused, EngineUnavailable

#: HTTP statuses that are about a request; the others are about the account, the sampler or the service.
_REFUSALS = (400, 413, 422)


def chunk_of(answer: Any, asked: Sampling, policy_version: str | None) -> Chunk:
    """Returns the complete completion.

    Args:
        answer: a ``SampleResponse``.
        asked: what was asked for, with ``max_tokens`` as they were sent.
        policy_version: of the weights that sampled it.

    Raises:
        EngineNonsense: counts differ, a logprob is none, or the stop token is missing.
    """
    if len(answer.sequences) != 1:
        raise EngineNonsense(f"Tinker sampled {len(answer.sequences)} completions instead of one")
    (sequence,) = answer.sequences
    token_ids = [int(token) for token in sequence.tokens]
    try:
        logprobs = [logprob(value) for value in sequence.logprobs or ()]
    except (TypeError, ValueError) as error:
        raise EngineNonsense(f"Tinker gave {error}") from error
    if len(logprobs) != len(token_ids):
        raise EngineNonsense(f"Tinker sampled {len(token_ids)} tokens and gave {len(logprobs)} logprobs")
    if len(token_ids) > asked.max_tokens:
        raise EngineNonsense(f"Tinker sampled {len(token_ids)} tokens where {asked.max_tokens} were allowed")
    return Chunk(
        token_ids,
        logprobs,
        _alternatives(sequence.topk_logprobs, asked, len(token_ids)),
        finish_reason=sequence.stop_reason,
        stop_reason=_stop_reason(sequence.stop_reason, token_ids, asked),
        policy_version=policy_version,
        cached_tokens=answer.prompt_cache_hit_tokens,
    )


def _alternatives(told: Sequence[Any] | None, asked: Sampling, n_tokens: int) -> list[dict[int, float]] | None:
    if not asked.top_logprobs:
        return None
    rows = list(told or ())
    if len(rows) != n_tokens:
        raise EngineNonsense(f"Tinker sampled {n_tokens} tokens and gave alternatives to {len(rows)}")
    return [best(row or (), asked.top_logprobs) for row in rows]


def _stop_reason(finish_reason: str, token_ids: list[int], asked: Sampling) -> int | str | None:
    """Returns what ended it: Tinker itself does not say. ``None`` for the tokenizer's own end of sequence."""
    if finish_reason != "stop":
        return None
    if asked.stop:
        return asked.stop[0]
    if not asked.stop_token_ids:
        return None
    if not token_ids or token_ids[-1] not in asked.stop_token_ids:
        raise EngineNonsense(
            f"Tinker stopped at one of the tokens {list(asked.stop_token_ids)}, but ends with {token_ids[-3:]}"
        )
    return token_ids[-1]


def scored(answer: Sequence[float | None] | None, token_ids: Sequence[int]) -> Scored:
    """A sequence's logprobs. Tinker echoes no ids, so that only their number can be compared."""
    if answer is None or len(answer) != len(token_ids):
        count = "no" if answer is None else len(answer)
        raise EngineNonsense(f"Tinker gave {count} logprobs for {len(token_ids)} tokens")
    values = [math.nan if value is None else logprob(value) for value in answer]
    return Scored([int(token) for token in token_ids], [math.nan, *values[1:]])


def failure(error: Exception) -> EngineError:
    """An SDK's error as one of ours. Where polling for an answer fails it raises ``ValueError``, and the reason is its
    cause."""
    import tinker

    if isinstance(error, ValueError) and isinstance(error.__cause__, tinker.APIStatusError):
        error = error.__cause__
    text = f"{type(error).__name__}: {error}"
    match error:
        case tinker.APIResponseValidationError() | ValueError() | AssertionError() | LookupError() | TypeError():
            return EngineNonsense(f"Tinker answered something that its SDK cannot read: {text}")
        case tinker.APIStatusError() if error.status_code in _REFUSALS:
            return EngineRefused(f"Tinker refused it ({error.status_code}): {error.message}")
        case tinker.APIStatusError():
            return EngineUnavailable(f"Tinker answered {error.status_code}: {error.message}")
        case tinker.RequestFailedError() if error.category == "user":
            return EngineRefused(f"Tinker refused it: {error.message}")
        case _:
            return EngineUnavailable(f"Tinker is not available: {text}")
