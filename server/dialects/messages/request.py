"""Anthropic's Messages → turns."""

from collections.abc import Iterator
from typing import Any

from tickertape.clients.engines.engine import Structure, StructureKind
from tickertape.server.dialects.messages.answers import (
    stream_writer,
    write_count,
    write_error,
    write_response,
)
from tickertape.server.dialects.messages.history import read_history
from tickertape.server.dialects.messages.schema import CountRequest, CustomTool, MessagesRequest, ThinkingConfig
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
from tickertape.server.turns.request import Thinking, ToolChoice, TurnRequest

__all__ = [
    "DIALECT",
    "read_count_request",
    "read_request",
    "stream_writer",
    "write_count",
    "write_error",
    "write_response",
]

DIALECT = "messages"

#: Fields that are kept on the turn and change nothing here.
_RECORDED = ("metadata", "user_profile_id", "diagnostics", "service_tier", "speed")

_WISHES: Wishes = {"speed": ("standard",)}

_NOTHING_CLEARED = {"type": "clear_thinking_20251015", "keep": "all"}
_REFUSED_IN_PROMPTS: Refused = {
    "container": ((), "there are no containers here"),
    "mcp_servers": (([],), "no MCP servers are called from here: offer their tools"),
    "context_management": (
        ({}, {"edits": []}, {"edits": [_NOTHING_CLEARED]}),
        "context is not edited here: what the model read stays on its tape",
    ),
}
_REFUSED: Refused = {
    **_REFUSED_IN_PROMPTS,
    "inference_geo": (("global",), "there is one place of inference"),
    "fallbacks": (([],), "there are no fallback models"),
    "compaction": ((), "conversations are not compacted here"),
}


def read_request(body: bytes) -> TurnRequest:
    """A request's JSON as a request for a turn.

    Raises:
        InvalidRequest: it is not JSON, a field has the wrong type or value, or a field cannot be honoured.
    """
    asked = read_fields(MessagesRequest, read_object(body))
    refuse(asked, _REFUSED)
    if asked.thread is not None:
        # By this code Anthropic's SDK knows to go on without: its tool runner asks for a thread unasked.
        text = "there are no threads here: send the whole conversation without thread"
        raise InvalidRequest(text, param="thread", code="thread_unsupported_request")
    request = _prompt(asked)
    request.continues = asked.messages[-1].role == "assistant"
    request.tool_choice = _tool_choice(asked)
    request.response_format = _response_format(asked)
    request.sampling = sampling(
        asked.stop_sequences or (),
        "stop_sequences",
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k or -1,
    )
    request.max_tokens = asked.max_tokens
    request.thinking = _thinking(asked.thinking)
    request.thought_tokens = asked.thinking.budget_tokens if asked.thinking else None
    request.counts_reasoning = request.thought_tokens is not None
    request.stream = bool(asked.stream)
    request.options |= {"omits_thoughts": bool(asked.thinking and asked.thinking.display == "omitted")}
    request.fields = recorded_fields(asked, _RECORDED)
    if asked.thinking is not None:
        request.fields["thinking"] = asked.thinking.model_dump(exclude_none=True)
    if asked.output_config is not None and asked.output_config.effort is not None:
        request.fields["effort"] = asked.output_config.effort
        request.effort, request.effort_param = asked.output_config.effort, "output_config.effort"
    return request


def read_count_request(body: bytes) -> TurnRequest:
    """A request to count a prompt's tokens, as the request whose prompt it is.

    Raises:
        InvalidRequest: as :func:`read_request`.
    """
    asked = read_fields(CountRequest, read_object(body))
    refuse(asked, _REFUSED_IN_PROMPTS)
    request = _prompt(asked)
    request.tool_choice = _tool_choice(asked)
    request.thinking = _thinking(asked.thinking)
    return request


def _prompt(asked: CountRequest) -> TurnRequest:
    """Returns the request that a prompt makes."""
    history = read_history(asked.system, asked.messages)
    tools = [_tool(given, f"tools[{k}]") for k, given in enumerate(asked.tools or ())]
    return TurnRequest(
        dialect=DIALECT,
        model=asked.model,
        messages=history.messages,
        tools=[_as_function(tool) for tool in tools] or None,
        sampling=sampling((), "stop_sequences"),
        options={"eager_tools": frozenset(tool.name for tool in tools if tool.eager_input_streaming)},
        unreadable=history.unreadable,
        ignored=[*_outside_protocol(asked, tools), *history.ignored],
    )


def _tool(given: dict[str, Any], place: str) -> CustomTool:
    if given.get("type") not in (None, "custom"):
        raise InvalidRequest(
            f"{place} is of type {given['type']!r:.100}: no tools are run here, and the served model knows none by "
            "type; offer a tool of type 'custom' with an input_schema",
            param=place,
            code="unsupported_value",
        )
    return read_fields(CustomTool, given, place)


def _as_function(tool: CustomTool) -> dict[str, Any]:
    """The tool as models are shown it; an absent description stays absent."""
    described = {} if tool.description is None else {"description": tool.description}
    return {"type": "function", "function": {"name": tool.name, **described, "parameters": tool.input_schema}}


def _tool_choice(asked: CountRequest) -> ToolChoice:
    choice = asked.tool_choice
    if choice is None:
        return ToolChoice()
    parallel = not choice.disable_parallel_tool_use
    if choice.type in ("auto", "none"):
        return ToolChoice(reads_calls=choice.type != "none", parallel=parallel)
    offered = [str(tool.get("name")) for tool in asked.tools or ()]
    if choice.type == "any" or choice.name is not None:
        names = [choice.name] if choice.type == "tool" and choice.name is not None else []
        forced = must_call(names, offered, parallel=parallel)
        if forced is not None:
            return forced
    raise InvalidRequest(
        f"tool_choice of type {choice.type!r} names {choice.name!r:.100}; "
        + (f"offered are: {', '.join(offered)}" if offered else "no tools are offered"),
        param="tool_choice",
        code="invalid_value",
    )


def _response_format(asked: CountRequest) -> Structure | None:
    config = asked.output_config
    wanted = asked.output_format or (config.format if config else None)
    return None if wanted is None else Structure(StructureKind.JSON_SCHEMA, wanted.schema_)


def _thinking(config: ThinkingConfig | None) -> Thinking | None:
    if config is None:
        return None
    if config.type == "enabled" and config.budget_tokens is None:
        raise InvalidRequest("thinking.budget_tokens is missing", param="thinking.budget_tokens", code="missing_field")
    kinds: dict[str, Thinking] = {"enabled": "on", "adaptive": "if_able", "disabled": "off"}
    return kinds[config.type]


def _outside_protocol(asked: CountRequest, tools: list[CustomTool]) -> Iterator[str]:
    """Fields that were sent and are not used, by their path; those of messages are found as they are read."""
    yield from extras(asked)
    yield from unmet(asked, _WISHES)
    parts = ("tool_choice", "thinking", "output_config", "output_format")
    for name in parts:
        part = getattr(asked, name)
        if part is not None:
            yield from extras(part, f"{name}.")
    for k, tool in enumerate(tools):
        yield from extras(tool, f"tools[{k}].")
