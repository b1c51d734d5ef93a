"""Requests to Tinker, and what it has no word for.

Fields are those of ``tinker`` 0.38: ``types/_pydantic_types/sampling_params.py`` and ``SamplingClient.sample``.
"""

from typing import Any

from tickertape.clients.engines.engine import Sampling
from tickertape.clients.engines.errors import EngineRefused

#: What it cannot do, with the value that asks for nothing.
_MISSING: dict[str, Any] = {
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_tokens": 0,
    "logit_bias": {},
    "structure": None,
    "adapter": None,
    "token_arrays": (),
}


def parameters(sampling: Sampling, *, room: int) -> dict[str, Any]:
    """The fields of Tinker's ``SamplingParams``, every one of them.

    Args:
        sampling: what is asked for.
        room: tokens that the context has left; ``max_tokens`` beyond it is cut.

    Raises:
        EngineRefused: Tinker cannot do this; ``param`` names the field.
    """
    for name, nothing in _MISSING.items():
        if (value := getattr(sampling, name)) != nothing:
            raise EngineRefused(f"Tinker knows no {name}, so {value!r:.100} cannot be honoured", param=name)
    return {
        "max_tokens": min(sampling.max_tokens, room),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "stop": _stop(sampling),
    }


def _stop(sampling: Sampling) -> list[int] | list[str] | None:
    """``SamplingParams.stop`` holds either ids or strings. The tokenizer's end-of-sequence token goes by it too: a list
    replaces it, an empty one takes it away, ``None`` keeps it."""
    if sampling.stop and sampling.stop_token_ids:
        raise EngineRefused("Tinker takes stop token ids or stop strings, not both at once", param="stop")
    if len(sampling.stop) > 1:
        raise EngineRefused("Tinker does not tell which of several stop strings ended the answer", param="stop")
    if sampling.stop or sampling.stop_token_ids or sampling.ignore_eos:
        return list(sampling.stop) or list(sampling.stop_token_ids)
    return None
