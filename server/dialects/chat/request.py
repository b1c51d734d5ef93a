"""OpenAI chat completions → turns."""

from collections.abc import Iterator
from typing import Any

from tickertape.clients.engines.engine import Structure, StructureKind
from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.dialects.chat.answers import stream_writer, write_error, write_response
from tickertape.server.dialects.chat.schema import ChatMessage, ChatRequest, ContentPart, StructuredOutputs
from tickertape.server.dialects.reading import (
    PADDED,
    Refused,
    Wishes,
    extras,
    left_out,
    must_call,
    openai_sampling,
    read_fields,
    read_object,
    recorded_fields,
    refuse,
    template_options,
    unmet,
)
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import ToolChoice, TurnRequest

__all__ = ["DIALECT", "read_request", "stream_writer", "write_error", "write_response"]

DIALECT = "chat"

#: Fields that are kept on the turn and change nothing here.
_RECORDED = (
    "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store", "reasoning_effort",
    "verbosity", "service_tier", "prediction",
)  # fmt: skip

_WISHES: Wishes = {"verbosity": ("medium",), "service_tier": ("auto", "default"), "prediction": ()}

_REFUSED: Refused = {
    "modalities": ((["text"],), "served models write text only: send ['text']"),
    "audio": ((), "served models write text only"),
    "web_search_options": ((), "there is no web search here: offer a tool"),
    "functions": ((), "functions are deprecated: use tools"),
    "function_call": ((), "function_call is deprecated: use tool_choice"),
}


_STRUCTURES = {
    "json_": StructureKind.JSON_SCHEMA,
    "json_object": StructureKind.JSON_OBJECT,
    "regex": StructureKind.REGEX,
    "choice": StructureKind.CHOICE,
    "grammar": StructureKind.GRAMMAR,
    "structural_tag": StructureKind.STRUCTURAL_TAG,
}


def read_request(body: bytes) -> TurnRequest:
    """A request's JSON as a request for a turn.

    Raises:
        InvalidRequest: it is not JSON, a field has the wrong type or value, or a field cannot be honoured.
    """
    given = read_object(body)
    chat = read_fields(ChatRequest, given)
    _refuse_what_cannot_be_honoured(chat)
    tools = given.get("tools") or None
    unreadable: dict[str, str] = {}
    return TurnRequest(
        dialect=DIALECT,
        model=chat.model,
        messages=[_message(message, f"messages[{k}]", unreadable) for k, message in enumerate(chat.messages)],
        tools=tools,
        n=chat.n or 1,
        continues=_continues(chat),
        tool_choice=_tool_choice(chat),
        response_format=_response_format(chat),
        format_param="response_format" if chat.structured_outputs is None else "structured_outputs",
        sampling=openai_sampling(chat, top_logprobs=chat.top_logprobs, bias=chat.logit_bias),
        max_tokens=_max_tokens(chat),
        template_options=template_options(chat.chat_template_kwargs, chat.reasoning_effort, "reasoning_effort"),
        effort=chat.reasoning_effort,
        effort_param="reasoning_effort",
        wants_tokens=bool(chat.logprobs or chat.return_token_ids),
        stream=bool(chat.stream),
        options={
            "include_usage": bool(chat.stream_options and chat.stream_options.include_usage),
            "logprobs": bool(chat.logprobs),
            "token_ids": bool(chat.return_token_ids),
        },
        fields=recorded_fields(chat, _RECORDED),
        unreadable=unreadable,
        ignored=list(_outside_protocol(chat)),
    )


def _refuse_what_cannot_be_honoured(chat: ChatRequest) -> None:
    refuse(chat, _REFUSED)
    if chat.stream_options is not None and not chat.stream:
        raise InvalidRequest("stream_options needs stream=true", param="stream_options")
    if chat.top_logprobs and not chat.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs=true", param="top_logprobs")


def _tool_choice(chat: ChatRequest) -> ToolChoice:
    choice, parallel = chat.tool_choice, chat.parallel_tool_calls is not False
    offered = sorted({tool.function.name for tool in chat.tools or ()})
    if choice in (None, "auto", "none"):
        return ToolChoice(reads_calls=choice != "none", parallel=parallel)
    names = [] if choice == "required" else _named_tools(choice)
    forced = None if names is None else must_call(names, offered, parallel=parallel)
    if forced is not None:
        is_free = isinstance(choice, dict) and _allowed(choice).get("mode") == "auto"
        return ToolChoice(names=forced.names, parallel=parallel) if is_free else forced
    raise InvalidRequest(
        f"tool_choice {choice!r:.200} must be 'auto', 'none', 'required', "
        '{"type": "function", "function": {"name": …}} or {"type": "allowed_tools", "allowed_tools": {"mode": "auto", '
        '"tools": […]}} with tools that are offered' + (f": {', '.join(offered)}" if offered else "; none is"),
        param="tool_choice",
        code="invalid_value",
    )


def _allowed(choice: dict[str, Any]) -> dict[str, Any]:
    given = choice.get("allowed_tools") if choice.get("type") == "allowed_tools" else None
    return given if isinstance(given, dict) else {}


def _named_tools(choice: Any) -> list[str] | None:
    """Functions that a choice names; ``None`` if it names none."""
    if not isinstance(choice, dict):
        return None
    tools: Any = [choice]
    if choice.get("type") == "allowed_tools":
        allowed = _allowed(choice)
        tools = allowed.get("tools") if allowed.get("mode") in ("auto", "required") else None
    functions = [tool.get("function") if isinstance(tool, dict) else None for tool in tools or ()]
    names = [function.get("name") if isinstance(function, dict) else None for function in functions]
    return [str(name) for name in names] if names and all(isinstance(name, str) for name in names) else None


def _response_format(chat: ChatRequest) -> Structure | None:
    given = chat.response_format
    if chat.structured_outputs is not None:
        if given is not None and given.type != "text":
            raise InvalidRequest("response_format and structured_outputs: send one", param="structured_outputs")
        return _structured(chat.structured_outputs)
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return Structure(StructureKind.JSON_OBJECT)
    if given.type != "json_schema" or given.json_schema is None or given.json_schema.schema_ is None:
        raise InvalidRequest(
            "response_format must be of type 'text', 'json_object', or 'json_schema' with json_schema.schema",
            param="response_format",
            code="invalid_value",
        )
    return Structure(StructureKind.JSON_SCHEMA, given.json_schema.schema_)


def _structured(asked: StructuredOutputs) -> Structure:
    """vLLM's own way to say what an answer looks like."""
    kinds = {name: getattr(asked, name) for name in _STRUCTURES if getattr(asked, name) not in (None, False)}
    if len(kinds) != 1:
        raise InvalidRequest(
            f"structured_outputs must have exactly one of {', '.join(_STRUCTURES)}",
            param="structured_outputs",
            code="invalid_value",
        )
    ((name, value),) = kinds.items()
    if name in ("json_", "structural_tag") and isinstance(value, str):
        value = read_object(value.encode())
    return Structure(StructureKind.JSON_OBJECT) if name == "json_object" else Structure(_STRUCTURES[name], value)


def _continues(chat: ChatRequest) -> bool:
    """Returns True if an answer that was cut is to be continued, in vLLM's way."""
    continues, opens = chat.continue_final_message or False, chat.add_generation_prompt
    if continues is (opens is None or opens):
        raise InvalidRequest(
            "the model answers the last message, or goes on with it: to go on, send continue_final_message=true with "
            "add_generation_prompt=false; else leave both out",
            param="continue_final_message" if continues else "add_generation_prompt",
        )
    if continues and chat.messages[-1].role != "assistant":
        raise InvalidRequest("the last message is not an assistant's", param="continue_final_message")
    return continues


def _max_tokens(chat: ChatRequest) -> int | None:
    if chat.max_tokens is not None and chat.max_completion_tokens not in (None, chat.max_tokens):
        raise InvalidRequest("max_tokens and max_completion_tokens differ: send one", param="max_completion_tokens")
    return chat.max_completion_tokens if chat.max_tokens is None else chat.max_tokens


#: Types of parts with a text, and the field that has it. ``output_text`` and ``input_text`` are Responses' names, which
#: clients of both protocols keep.
_TEXTS = {"text": "text", "output_text": "text", "input_text": "text", "refusal": "refusal"}
#: Types of parts that no text model reads.
_UNREADABLE = {
    "image_url": "image", "input_image": "image", "image": "image", "input_audio": "audio", "audio_url": "audio",
    "file": "file", "input_file": "file", "video_url": "video",
}  # fmt: skip


def _read_parts(
    parts: str | list[ContentPart] | None, place: str, unreadable: dict[str, str]
) -> tuple[str | None, str | None]:
    """A content's text, and what of it is a thought."""
    if isinstance(parts, str | None):
        return parts, None
    texts: list[str] = []
    thoughts: list[str] = []
    for k, part in enumerate(parts):
        at = f"{place}.content[{k}]"
        text = getattr(part, _TEXTS[part.type]) if part.type in _TEXTS else None
        if text is not None:
            texts.append(text)
        elif part.type == "thinking" and part.thinking is not None:
            thoughts.append(part.thinking if isinstance(part.thinking, str) else "".join(t.text for t in part.thinking))
        elif part.type in _UNREADABLE:
            texts.append(left_out(_UNREADABLE[part.type], at, unreadable))
        else:
            raise InvalidRequest(
                f'{at} is of type {part.type!r}; served models read text: {{"type": "text", "text": …}}', param=at
            )
    return "\n".join(texts) if texts or not thoughts else None, "".join(thoughts) if thoughts else None


def _message(message: ChatMessage, place: str, unreadable: dict[str, str]) -> Message:
    parts, thought = _read_parts(message.content, place, unreadable)
    if message.role == "assistant":
        parts = message.refusal if parts is None else parts
    elif parts is None:
        raise InvalidRequest(
            f"{place}.content is missing: a {message.role} message says something", param=f"{place}.content"
        )
    elif message.tool_calls:
        raise InvalidRequest(f"{place}.tool_calls: only assistants call tools", param=f"{place}.tool_calls")
    return Message(
        role=message.role,
        content=parts,
        reasoning=next((r for r in (message.reasoning_content, message.reasoning, thought) if r is not None), None),
        tool_calls=tuple(ToolCall(c.function.name, c.function.arguments, c.id) for c in message.tool_calls or ()),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _outside_protocol(chat: ChatRequest) -> Iterator[str]:
    """Fields that were sent and are not used, by their path. A null says nothing and is not counted."""
    yield from extras(chat)
    yield from unmet(chat, _WISHES)
    if chat.stream_options is not None:
        yield from extras(chat.stream_options, "stream_options.")
        yield from unmet(chat.stream_options, PADDED, "stream_options.")
    if chat.structured_outputs is not None:
        yield from extras(chat.structured_outputs, "structured_outputs.")
    for k, message in enumerate(chat.messages):
        yield from extras(message, f"messages[{k}].")
        for j, part in enumerate(message.content if isinstance(message.content, list) else ()):
            yield from extras(part, f"messages[{k}].content[{j}].")
        for j, call in enumerate(message.tool_calls or ()):
            yield from extras(call, f"messages[{k}].tool_calls[{j}].")
            yield from extras(call.function, f"messages[{k}].tool_calls[{j}].function.")
    for k, tool in enumerate(chat.tools or ()):
        # The complete tool is shown to the model; what is asked of the server beyond that is not done.
        yield from extras(tool.function, f"tools[{k}].function.")
