"""A request's sampling parameters, made complete for its prompt."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from tickertape.clients.engines.engine import EngineInfo, Feature, Sampling, Structure, StructureKind
from tickertape.renderers.renderer import Renderer
from tickertape.server.errors import ContextLengthExceeded, EngineFailed, InvalidRequest
from tickertape.server.turns.limits import SamplingLimits
from tickertape.server.turns.request import TurnRequest


def complete_sampling(
    request: TurnRequest,
    renderer: Renderer,
    *,
    prompt_tokens: int,
    info: EngineInfo,
    limits: SamplingLimits,
    structure: Structure | None = None,
    number: int = 0,
) -> Sampling:
    """Returns what the engine is asked for.

    Args:
        request: what the client asked for.
        renderer: whose stop tokens end a turn.
        prompt_tokens: how many there are.
        info: what the engines can do.
        limits: of prompt and completion.
        structure: what the completion is held to.
        number: which of several choices; each has a seed of its own, as in vLLM.

    Raises:
        InvalidRequest: a value is beyond the vocabulary, or there is no room for an answer.
        EngineFailed: the engines do not report the token arrays that this server is to keep.
    """
    if limits.prompt_tokens is not None and prompt_tokens > limits.prompt_tokens:
        raise ContextLengthExceeded(
            "this server takes no longer prompts", prompt_tokens=prompt_tokens, most=limits.prompt_tokens
        )
    room = info.max_context - prompt_tokens
    if room < 1:
        raise ContextLengthExceeded(
            "that leaves no room for an answer", prompt_tokens=prompt_tokens, most=info.max_context
        )
    sampling = request.sampling
    _check_features(sampling, info)
    if missing := missing_arrays(limits.token_arrays, info):
        raise EngineFailed(missing, code="no_token_array")
    _check_ids("logit_bias", sampling.logit_bias, renderer.tokenizer.vocab_size)
    _check_ids("stop_token_ids", sampling.stop_token_ids, renderer.tokenizer.vocab_size)
    stops = () if sampling.ignore_eos else renderer.get_stop_sequences()
    return replace(
        sampling,
        max_tokens=min(request.max_tokens or room, room, limits.output_tokens or room),
        stop_token_ids=tuple(dict.fromkeys([*stops, *sampling.stop_token_ids])),
        structure=structure,
        seed=None if sampling.seed is None else sampling.seed + number,
        adapter=request.model if request.model in info.adapters else None,
        token_arrays=limits.token_arrays,
    )


def missing_arrays(names: Iterable[str], info: EngineInfo) -> str | None:
    """Returns what engines lack of the token arrays that are asked for, in words; ``None`` if they report them all."""
    missing = [name for name in names if name not in info.features]
    if not missing:
        return None
    return (
        f"{', '.join(missing)} cannot be kept: not every engine that serves reports it; vLLM and SGLang report "
        "routed_experts of mixture-of-experts models when they are started with --enable-return-routed-experts"
    )


def recorded(sampling: Sampling) -> dict[str, Any]:
    """Sampling parameters as they are kept on the turn."""
    values = {field.name: getattr(sampling, field.name) for field in fields(sampling)}
    values["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.structure is not None:
        values["structure"] = asdict(sampling.structure)
    return values


def restored(values: Mapping[str, Any]) -> Sampling:
    """The sampling of a turn's :func:`recorded` parameters."""
    given = {**values, **{name: tuple(values.get(name, ())) for name in ("stop", "stop_token_ids", "token_arrays")}}
    given["logit_bias"] = {int(token): bias for token, bias in values.get("logit_bias", {}).items()}
    if (structure := values.get("structure")) is not None:
        given["structure"] = Structure(StructureKind(structure["kind"]), structure["value"])
    return Sampling(**given)


def _check_features(sampling: Sampling, info: EngineInfo) -> None:
    """Refuses here what the engines cannot do, in the client's words."""
    if sampling.min_tokens and Feature.MIN_TOKENS not in info.features:
        raise _cannot("min_tokens", "the engine knows no least number of tokens")


def _cannot(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{param} cannot be honoured: {why}", param=param, code="unsupported_value")


def _check_ids(name: str, token_ids: Iterable[int], size: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < size:
            raise InvalidRequest(f"{name}: {token_id} is no token id (there are 0 to {size - 1})", param=name)
