"""Requests to vLLM: every sampling parameter, spelled for either of its endpoints that take token ids.

Fields are those of vLLM 0.32: ``CompletionRequest`` in ``entrypoints/openai/completion/protocol.py``,
``GenerateRequest`` in ``entrypoints/scale_out/token_in_token_out/protocol.py``, ``SamplingParams`` in
``sampling_params.py``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from tickertape.clients.engines.engine import Sampling, Structure, StructureKind, TokenIds

#: The lean endpoint, token ids in and out; there with ``--enable-scale-out``.
GENERATE = "/inference/v1/generate"
#: The one that every vLLM has.
COMPLETIONS = "/v1/completions"

#: Where requests are aborted by id; there with ``--enable-scale-out`` and with ``VLLM_SERVER_DEV_MODE=1``. An order
#: without ids aborts all requests.
ABORT = "/abort_requests"

#: vLLM's ``--max-logprobs``, unless it was set.
_MAX_LOGPROBS = 20


def generation(
    endpoint: str, model: str, prompt_ids: TokenIds | Sequence[int], sampling: Sampling, chunk_tokens: int = 1
) -> bytes:
    """Writes the body of a streamed request.

    Args:
        endpoint: :data:`GENERATE` or :data:`COMPLETIONS`.
        model: the model's or the adapter's name.
        prompt_ids: int32[n] or a sequence of ints.
        sampling: complete.
        chunk_tokens: how many tokens an event may hold; servers before 0.32 ignore it.
    """
    spell = _generate if endpoint == GENERATE else _completions
    streamed = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps({**streamed, **spell(prompt_ids, sampling, chunk_tokens)}, option=options)


def abort_order(endpoint: str, request_id: str) -> bytes:
    """Writes the body of an order to :data:`ABORT` one request, by the id that vLLM makes of its ``X-Request-Id``."""
    own_id = f"generate-tokens-{request_id}" if endpoint == GENERATE else f"cmpl-{request_id}-0"
    return orjson.dumps({"request_ids": [own_id]})


def scoring(model: str, token_ids: Sequence[int]) -> bytes:
    """The body of a request to :data:`COMPLETIONS` for the logprobs of a prompt. vLLM samples one token at least."""
    return _scoring(model, token_ids, {})


def scoring_with_last_forced(model: str, token_ids: Sequence[int]) -> bytes:
    """The same for a sequence that fills the context and leaves no place for a token to sample: its own last token is
    the one sampled."""
    return _scoring(model, token_ids[:-1], {"logprobs": 0, "logit_bias": {str(token_ids[-1]): 100.0}})


def _scoring(model: str, token_ids: Sequence[int], last: dict[str, Any]) -> bytes:
    asked = {"max_tokens": 1, "temperature": 0.0, "n": 1, "stream": False, "echo": False, "add_special_tokens": False}
    told = {"prompt_logprobs": 0, "return_token_ids": True}
    prompt = np.asarray(token_ids, np.int32)
    return orjson.dumps({"model": model, "prompt": prompt, **asked, **told, **last}, option=orjson.OPT_SERIALIZE_NUMPY)


def _generate(prompt_ids: TokenIds | Sequence[int], sampling: Sampling, chunk_tokens: int) -> dict[str, Any]:
    # The sampled token counts as one of the alternatives here, so one more is asked for where vLLM allows it.
    alternatives = min(sampling.top_logprobs + 1, _MAX_LOGPROBS) if sampling.top_logprobs else 0
    return {
        "token_ids": prompt_ids,
        "return_token_ids": False,
        "output_mode": "tokens",
        "sampling_params": {
            **_parameters(sampling, chunk_tokens),
            "logprobs": max(alternatives, sampling.top_logprobs),
            "detokenize": bool(sampling.stop),  # stop strings are sought in text; nothing else needs it
        },
    }


def _completions(prompt_ids: TokenIds | Sequence[int], sampling: Sampling, chunk_tokens: int) -> dict[str, Any]:
    return {
        "prompt": prompt_ids,
        **_parameters(sampling, chunk_tokens),
        "logprobs": sampling.top_logprobs,
        "echo": False,
        "add_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def _parameters(sampling: Sampling, chunk_tokens: int) -> dict[str, Any]:
    """Returns the parameters that both endpoints call by the same names."""
    return {
        "stream_interval": chunk_tokens if chunk_tokens > 1 else None,
        "n": 1,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
        "min_tokens": sampling.min_tokens,
        "logit_bias": dict(sampling.logit_bias) or None,
        "structured_outputs": None if sampling.structure is None else _structured_outputs(sampling.structure),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def _structured_outputs(structure: Structure) -> dict[str, Any]:
    """vLLM's ``StructuredOutputsParams``: exactly one of its fields."""
    match structure.kind:
        case StructureKind.JSON_SCHEMA:
            return {"json": structure.value}
        case StructureKind.JSON_OBJECT:
            return {"json_object": True}
        case StructureKind.STRUCTURAL_TAG:  # as a string of JSON; an object is refused
            return {"structural_tag": orjson.dumps(structure.value).decode()}
        case StructureKind.REGEX | StructureKind.GRAMMAR | StructureKind.CHOICE:
            return {structure.kind.value: structure.value}
