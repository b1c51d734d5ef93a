"""OpenAI Responses → turns."""

from collections.abc import Iterator

from tickertape.clients.engines.engine import Structure, StructureKind
from tickertape.renderers.messages import Message
from tickertape.server.dialects.reading import (
    PADDED,
    Refused,
    Wishes,
    extras,
    openai_sampling,
    read_fields,
    read_object,
    recorded_fields,
    refuse,
    template_options,
    unmet,
)
from tickertape.server.dialects.responses.answers import (
    LOGPROBS,
    stream_writer,
    turn_id_of,
    write_count,
    write_error,
    write_response,
)
from tickertape.server.dialects.responses.input import read_input
from tickertape.server.dialects.responses.schema import ResponsesRequest
from tickertape.server.dialects.responses.tools import read_tool_choice, read_tools
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import INSTRUCTIONS, Follows, TurnRequest

__all__ = [
    "DIALECT",
    "read_count_request",
    "read_request",
    "stream_writer",
    "write_count",
    "write_error",
    "write_response",
]

DIALECT = "responses"

#: Fields that are kept on the turn, and sent again with the answer where it has a place for them.
_RECORDED = (
    "client_metadata", "include", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls",
    "previous_response_id", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
    "image", "service_tier", "store", "temperature", "tool_choice", "top_logprobs", "top_p", "truncation", "user",
)  # fmt: skip
_WISHES: Wishes = {
    "image": ({"context_compression": "auto"}, {"context_compression": "disabled"}),
    "service_tier": ("auto", "default"),
    "truncation": ("disabled",),
}
#: Reasoning is sent completely, as ``reasoning_text``: nothing sums it up.
_WISHES_OF_REASONING: Wishes = {"summary": ("auto",), "generate_summary": ("auto",), "mode": ("standard",)}
_WISHES_OF_TEXT: Wishes = {"verbosity": ("medium",)}
_REFUSED: Refused = {
    "background": ((False,), "there are no background responses: stream, or wait"),
    "background_options": (({},), "there are no background responses"),
    "conversation": ((), "there are no conversation objects: send the history, or previous_response_id"),
    "prompt": ((), "there are no stored prompts: send instructions and input"),
    "context_management": (([],), "nothing is compacted here"),
    "moderation": ((), "there is no moderation here"),
    "access_programs": ((), "there are no access programs here"),
}
_REFUSED_REASONING: Refused = {
    "context": (("auto", "all_turns"), "reasoning stays in the context"),
}
#: The rest belong to tools that are not here, of which there is nothing to include.
_INCLUDABLE = (
    "reasoning.encrypted_content", LOGPROBS, "web_search_call.results", "web_search_call.action.sources",
    "file_search_call.results", "code_interpreter_call.outputs", "computer_call_output.output.image_url",
    "message.input_image.image_url",
)  # fmt: skip


def read_request(body: bytes) -> TurnRequest:
    """A request's JSON as a request for a turn.

    Raises:
        InvalidRequest: it is not JSON, a field has the wrong type or value, or a field cannot be honoured.
    """
    given = read_fields(ResponsesRequest, read_object(body))
    _refuse_what_cannot_be_honoured(given)
    read, toolbox = read_input(given.input or []), read_tools(given.tools or ())
    follows = None
    if given.previous_response_id is not None:
        turn_id = turn_id_of(given.previous_response_id)
        follows = Follows(turn_id, given.previous_response_id, "previous_response_id")
    if not read.messages and follows is None:
        raise InvalidRequest("input is missing: there is nothing to answer", param="input", code="missing_field")
    parallel = given.parallel_tool_calls is not False
    include = given.include or []
    instructions = _instructions(given)
    effort = None if given.reasoning is None else given.reasoning.effort
    return TurnRequest(
        dialect=DIALECT,
        model=given.model,
        messages=[*instructions, *read.messages],
        partial={k + len(instructions): each for k, each in read.partial.items()},
        follows=follows,
        tools=toolbox.functions or None,
        tool_choice=read_tool_choice(given.tool_choice, toolbox.names, parallel=parallel),
        response_format=_response_format(given),
        sampling=openai_sampling(given, top_logprobs=given.top_logprobs),
        max_tokens=given.max_output_tokens,
        template_options=template_options(given.chat_template_kwargs, effort, "reasoning.effort"),
        effort=effort,
        effort_param="reasoning.effort",
        wants_tokens=LOGPROBS in include,
        counts_reasoning=True,
        stream=bool(given.stream),
        options={"include": include},
        fields=_recorded(given, toolbox.forms),
        unreadable=read.unreadable,
        ignored=[*_outside_protocol(given), *read.ignored, *toolbox.ignored],
    )


def read_count_request(body: bytes) -> TurnRequest:
    """A request to count a prompt's tokens, as the request whose prompt it is.

    Raises:
        InvalidRequest: as :func:`read_request`; or it leaves a part of the conversation to this server's tape.
    """
    request = read_request(body)
    if request.follows is not None or request.partial:
        param = "previous_response_id" if request.follows is not None else "input"
        raise InvalidRequest("a prompt is counted as it was sent: send the whole input", param=param)
    return request


def _refuse_what_cannot_be_honoured(given: ResponsesRequest) -> None:
    refuse(given, _REFUSED)
    if given.reasoning is not None:
        refuse(given.reasoning, _REFUSED_REASONING, "reasoning.")
    if given.stream_options is not None and not given.stream:
        raise InvalidRequest("stream_options needs stream=true", param="stream_options")
    for k, name in enumerate(given.include or ()):
        if name not in _INCLUDABLE:
            raise InvalidRequest(
                f"include[{k}]: there is no {name!r:.100} to include", param=f"include[{k}]", code="invalid_value"
            )
    if given.top_logprobs and LOGPROBS not in (given.include or ()):
        raise InvalidRequest(f"top_logprobs needs {LOGPROBS!r} in include", param="top_logprobs")


def _instructions(given: ResponsesRequest) -> list[Message]:
    return [Message("system", given.instructions)] if given.instructions else []


def _recorded(given: ResponsesRequest, forms: dict[str, dict[str, object]]) -> dict[str, object]:
    fields = recorded_fields(given, _RECORDED)
    for name in ("text", "reasoning"):
        value = getattr(given, name)
        if value is not None:
            fields[name] = value.model_dump(exclude_none=True, by_alias=True)
    if forms:
        fields["tool_forms"] = forms
    return fields | ({INSTRUCTIONS: 1} if given.instructions else {})


def _response_format(given: ResponsesRequest) -> Structure | None:
    wanted = None if given.text is None else given.text.format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Structure(StructureKind.JSON_OBJECT)
    if wanted.type != "json_schema" or wanted.schema_ is None:
        raise InvalidRequest(
            "text.format must be of type 'text', 'json_object', or 'json_schema' with a schema",
            param="text.format",
            code="invalid_value",
        )
    return Structure(StructureKind.JSON_SCHEMA, wanted.schema_)


def _outside_protocol(given: ResponsesRequest) -> Iterator[str]:
    yield from extras(given)
    yield from unmet(given, _WISHES)
    parts = {"reasoning": _WISHES_OF_REASONING, "text": _WISHES_OF_TEXT, "stream_options": PADDED}
    for name, wishes in parts.items():
        part = getattr(given, name)
        if part is not None:
            yield from extras(part, f"{name}.")
            yield from unmet(part, wishes, f"{name}.")
    if given.text is not None and given.text.format is not None:
        yield from extras(given.text.format, "text.format.")
