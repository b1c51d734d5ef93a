"""Requests to SGLang's ``/generate``.

Unknown sampling parameters are refused by it, unknown fields beside them are ignored. Its defaults come from the
model's ``generation_config.json``, so every parameter is sent.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from tickertape.clients.engines.engine import Sampling, Structure, StructureKind, TokenIds

GENERATE = "/generate"


def generation(
    prompt_ids: TokenIds, sampling: Sampling, max_new_tokens: int, request_id: str, chunk_tokens: int = 1
) -> bytes:
    """Writes the body of a streamed generation, whose events hold ``chunk_tokens`` tokens; servers that do not know
    ``stream_interval`` refuse more than one."""
    chunks = {"stream_interval": chunk_tokens} if chunk_tokens > 1 else {}
    return _body(
        {
            "rid": request_id,
            "input_ids": prompt_ids,
            "sampling_params": {**_parameters(sampling, max_new_tokens), **chunks},
            "stream": True,
            "return_logprob": True,
            "logprob_start_len": -1,
            "top_logprobs_num": sampling.top_logprobs,
            "return_text_in_logprobs": False,
            "return_routed_experts": "routed_experts" in sampling.token_arrays,
            "return_sampling_mask": "sampling_mask" in sampling.token_arrays,
            "lora_path": sampling.adapter,
        }
    )


def scoring(token_ids: Sequence[int], adapter: str | None) -> bytes:
    """Logprobs of a prompt, which come back with the tokens that they are of. Nothing is sampled."""
    return _body(
        {
            "input_ids": list(token_ids),
            "sampling_params": _parameters(Sampling(max_tokens=0), 0),
            "stream": False,
            "return_logprob": True,
            "logprob_start_len": 0,
            "lora_path": adapter,
        }
    )


def beyond_the_vocabulary() -> bytes:
    """A request that is refused for a token id that no vocabulary has, before anything is sampled."""
    sampling = Sampling(max_tokens=0, logit_bias={2**31 - 1: 0.0})
    return _body({"input_ids": [0], "sampling_params": _parameters(sampling, 0), "stream": False})


def _body(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _parameters(sampling: Sampling, max_new_tokens: int) -> dict[str, Any]:
    return {
        "n": 1,
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": sampling.min_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if sampling.top_k > 0 else -1,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "sampling_seed": sampling.seed,
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_token_ids),
        "stop_regex": [],
        "ignore_eos": sampling.ignore_eos,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()} or None,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "no_stop_trim": True,
        **_structure(sampling.structure),
    }


def _structure(structure: Structure | None) -> dict[str, str | None]:
    """SGLang's four ways to say it, of which at most one may be used."""
    ways: dict[str, str | None] = {"json_schema": None, "regex": None, "ebnf": None, "structural_tag": None}
    if structure is None:
        return ways
    match structure.kind:
        case StructureKind.JSON_SCHEMA:
            told = {"json_schema": orjson.dumps(structure.value).decode()}
        case StructureKind.JSON_OBJECT:
            told = {"json_schema": '{"type":"object"}'}
        case StructureKind.REGEX:
            told = {"regex": structure.value}
        case StructureKind.GRAMMAR:
            told = {"ebnf": structure.value}
        case StructureKind.CHOICE:
            told = {"ebnf": _one_of(structure.value)}
        case StructureKind.STRUCTURAL_TAG:
            told = {"structural_tag": orjson.dumps(structure.value).decode()}
    return ways | told


def _one_of(choices: Sequence[str]) -> str:
    """A grammar of literals, in JSON's escapes, which xgrammar's EBNF shares."""
    return "root ::= " + " | ".join(orjson.dumps(choice).decode() for choice in choices)
