"""Gemini's requests → turns."""

from collections.abc import Iterator, Sequence
from typing import Any

from tickertape.clients.engines.engine import Structure, StructureKind
from tickertape.server.dialects.gemini.history import read_history
from tickertape.server.dialects.gemini.json_schema import json_schema
from tickertape.server.dialects.gemini.schema import (
    Content,
    CountRequest,
    FunctionCallingConfig,
    GenerateRequest,
    GenerationConfig,
    ThinkingConfig,
    Tool,
)
from tickertape.server.dialects.reading import (
    Refused,
    Wishes,
    extras,
    must_call,
    read_fields,
    read_object,
    recorded_fields,
    refuse,
    sampling,
    unmet,
)
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import ToolChoice, TurnRequest

DIALECT = "gemini"

_RECORDED = ("labels", "safety_settings", "service_tier")
_REFUSED: Refused = {"cached_content": ((), "nothing is cached by name here: send the contents")}
_REFUSED_CONFIG: Refused = {
    "response_modalities": ((["TEXT"],), "served models write text only: send ['TEXT']"),
    "speech_config": ((), "served models write text only"),
}
_WISHES: Wishes = {"safety_settings": ([],), "service_tier": ()}
_WISHES_OF_CONFIG: Wishes = {"media_resolution": ()}
_CONFIG = "generationConfig."


def read_request(body: bytes, model: str, *, streams: bool) -> TurnRequest:
    """A request's JSON as a request for a turn.

    Args:
        body: the JSON.
        model: that the URL names.
        streams: whether it names the method that streams.

    Raises:
        InvalidRequest: it is not JSON, a field has the wrong type or value, or a field cannot be honoured.
    """
    asked = read_fields(GenerateRequest, read_object(body))
    config = asked.generation_config or GenerationConfig()
    _refuse(asked, config)
    request = _prompt(model, asked.system_instruction, asked.contents, asked.tools or ())
    thinking = config.thinking_config or ThinkingConfig()
    offered = [tool["function"]["name"] for tool in request.tools or ()]
    calling = asked.tool_config.function_calling_config if asked.tool_config else None
    request.n = config.candidate_count or 1
    request.tool_choice = _tool_choice(calling or FunctionCallingConfig(), offered)
    request.response_format = _response_format(config)
    request.format_param = f"{_CONFIG}responseMimeType"
    request.sampling = sampling(
        config.stop_sequences or (),
        f"{_CONFIG}stopSequences",
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=int(config.top_k or -1),
        seed=config.seed,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
        top_logprobs=config.logprobs if config.response_logprobs else None,
    )
    request.max_tokens = config.max_output_tokens
    request.effort, request.effort_param = _effort(thinking)
    request.wants_tokens = bool(config.response_logprobs)
    request.counts_reasoning = True
    request.stream = streams
    request.options = {"tells_thoughts": bool(thinking.include_thoughts), "logprobs": request.wants_tokens}
    request.fields = recorded_fields(asked, _RECORDED)
    if config.thinking_config is not None:
        request.fields["thinking_config"] = thinking.model_dump(exclude_none=True)
    request.ignored += _outside_protocol(asked, config, thinking)
    return request


def read_count_request(body: bytes, model: str) -> TurnRequest:
    """A request to count a prompt's tokens, as the request whose prompt it is; raises as :func:`read_request`."""
    asked = read_fields(CountRequest, read_object(body))
    whole = asked.generate_content_request
    contents = whole.contents if whole is not None else asked.contents
    if contents is None:
        raise InvalidRequest("contents is missing", param="contents", code="missing_field")
    if whole is not None:
        return _prompt(model, whole.system_instruction, contents, whole.tools or ())
    return _prompt(model, asked.system_instruction, contents, asked.tools or ())


def _prompt(model: str, system: Content | None, contents: Sequence[Content], tools: Sequence[Tool]) -> TurnRequest:
    """Returns the request that a prompt makes."""
    history = read_history(system, contents)
    ignored: list[str] = []
    functions = [function for k, tool in enumerate(tools) for function in _functions(tool, f"tools[{k}]", ignored)]
    return TurnRequest(
        dialect=DIALECT,
        model=model,
        messages=history.messages,
        tools=functions or None,
        sampling=sampling((), f"{_CONFIG}stopSequences"),
        unreadable=history.unreadable,
        ignored=[*history.ignored, *ignored],
    )


def _functions(tool: Tool, place: str, ignored: list[str]) -> Iterator[dict[str, Any]]:
    """Functions as models are shown them. Google's own tools are left out: a client that offers them beside functions
    does not ask for their use."""
    ignored += extras(tool, f"{place}.")
    for k, declared in enumerate(tool.function_declarations or ()):
        ignored += extras(declared, f"{place}.functionDeclarations[{k}].")
        function: dict[str, Any] = {"name": declared.name}
        if declared.description is not None:
            function["description"] = declared.description
        if declared.parameters_json_schema is not None:
            function["parameters"] = declared.parameters_json_schema
        elif declared.parameters is not None:
            function["parameters"] = json_schema(declared.parameters)
        yield {"type": "function", "function": function}


def _tool_choice(config: FunctionCallingConfig, offered: Sequence[str]) -> ToolChoice:
    mode = (config.mode or "AUTO").upper()
    names = config.allowed_function_names or []
    if mode == "NONE":
        return ToolChoice(reads_calls=False)
    forced = must_call(names, offered, parallel=True)
    if mode == "ANY" and forced is not None:
        return forced
    if mode in ("AUTO", "VALIDATED", "MODE_UNSPECIFIED") and (forced is not None or not names):
        return ToolChoice(names=tuple(names))
    raise InvalidRequest(
        f"toolConfig.functionCallingConfig: mode {mode!r:.50} with allowedFunctionNames {names!r:.200} must be AUTO, "
        "ANY, NONE or VALIDATED with functions that are offered"
        + (f": {', '.join(offered)}" if offered else "; none is"),
        param="toolConfig.functionCallingConfig",
        code="invalid_value",
    )


def _response_format(config: GenerationConfig) -> Structure | None:
    wanted = config.response_json_schema
    if wanted is None and config.response_schema is not None:
        wanted = json_schema(config.response_schema)
    mime_type = config.response_mime_type or "text/plain"
    if mime_type == "application/json":
        if wanted is None:
            return Structure(StructureKind.JSON_OBJECT)
        return Structure(StructureKind.JSON_SCHEMA, wanted)
    choices = wanted.get("enum") if wanted is not None and mime_type == "text/x.enum" else None
    if isinstance(choices, list) and choices and all(isinstance(each, str) for each in choices):
        return Structure(StructureKind.CHOICE, choices)
    if mime_type == "text/plain" and wanted is None:
        return None
    raise InvalidRequest(
        f"{_CONFIG}responseMimeType {mime_type!r:.100} must be text/plain without a schema, application/json, or "
        "text/x.enum with a schema of texts",
        param=f"{_CONFIG}responseMimeType",
        code="invalid_value",
    )


def _effort(thinking: ThinkingConfig) -> tuple[str | None, str]:
    place = f"{_CONFIG}thinkingConfig."
    if thinking.thinking_level is not None:
        return thinking.thinking_level.lower(), f"{place}thinkingLevel"
    return ("none" if thinking.thinking_budget == 0 else None), f"{place}thinkingBudget"


def _refuse(asked: GenerateRequest, config: GenerationConfig) -> None:
    refuse(asked, _REFUSED)
    refuse(config, _REFUSED_CONFIG, _CONFIG)
    if config.logprobs and not config.response_logprobs:
        raise InvalidRequest(f"{_CONFIG}logprobs needs responseLogprobs", param=f"{_CONFIG}logprobs")


def _outside_protocol(asked: GenerateRequest, config: GenerationConfig, thinking: ThinkingConfig) -> Iterator[str]:
    """Fields that were sent and are not used, by their path; those of contents and tools are found as they are read."""
    yield from extras(asked)
    yield from unmet(asked, _WISHES)
    yield from extras(config, _CONFIG)
    yield from unmet(config, _WISHES_OF_CONFIG, _CONFIG)
    yield from extras(thinking, f"{_CONFIG}thinkingConfig.")
    if thinking.thinking_budget is not None and thinking.thinking_budget > 0:  # guidance, at Google too
        yield f"{_CONFIG}thinkingConfig.thinkingBudget"
    if asked.tool_config is not None:
        yield from extras(asked.tool_config, "toolConfig.")
        calling = asked.tool_config.function_calling_config
        if calling is not None:
            yield from extras(calling, "toolConfig.functionCallingConfig.")
            if calling.mode == "VALIDATED":  # nothing holds calls to their schemas
                yield "toolConfig.functionCallingConfig.mode"
