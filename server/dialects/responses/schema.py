"""OpenAI's ``POST /v1/responses``: its fields and their types.

Source: openai-python 3.x, ``types/responses/response_create_params.py`` and ``response_input_item.py``; Codex's own
field and vLLM's extensions are at the end. Fields that are not listed are outside the protocol.
"""

from typing import Any, Literal

from pydantic import Field

from tickertape.server.dialects.reading import Fields


class Part(Fields):
    """A part of a message's content, of reasoning, or of a tool's output."""

    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    prompt_cache_breakpoint: Any = None
    image_url: Any = None
    detail: Any = None
    file_id: Any = None
    file_url: Any = None
    file_data: Any = None
    filename: Any = None
    input_audio: Any = None


class MessageItem(Fields):
    """A message, as input or as an earlier answer gave it."""

    type: Literal["message"] | None = None
    id: str | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    status: str | None = None
    phase: str | None = None


class ReasoningItem(Fields):
    type: Literal["reasoning"]
    id: str | None = None
    summary: list[Part] | None = None
    content: list[Part] | None = None
    encrypted_content: str | None = None
    status: str | None = None


class FunctionCallItem(Fields):
    type: Literal["function_call"]
    id: str | None = None
    call_id: str
    name: str = Field(min_length=1)
    namespace: str | None = None
    arguments: str
    status: str | None = None


class CustomCallItem(Fields):
    type: Literal["custom_tool_call"]
    id: str | None = None
    call_id: str
    name: str = Field(min_length=1)
    namespace: str | None = None
    input: str
    status: str | None = None


class CallOutputItem(Fields):
    type: Literal["function_call_output", "custom_tool_call_output"]
    id: str | None = None
    call_id: str
    output: str | list[Part]
    name: str | None = None
    namespace: str | None = None
    status: str | None = None


class ItemReference(Fields):
    """An item of an earlier answer, by its id."""

    type: Literal["item_reference"] | None = None
    id: str


class FunctionTool(Fields):
    type: Literal["function"]
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomFormat(Fields):
    type: Literal["text", "grammar"]
    syntax: str | None = None
    definition: str | None = None


class CustomTool(Fields):
    type: Literal["custom"]
    name: str = Field(min_length=1)
    description: str | None = None
    format: CustomFormat | None = None


class NamespaceTool(Fields):
    type: Literal["namespace"]
    name: str = Field(min_length=1)
    description: str | None = None
    tools: list[dict[str, Any]]


class Reasoning(Fields):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class TextFormat(Fields):
    type: str
    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class Text(Fields):
    format: TextFormat | None = None
    verbosity: str | None = None


class StreamOptions(Fields):
    include_obfuscation: bool | None = None


class ResponsesRequest(Fields):
    model: str
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    text: Text | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    truncation: str | None = None
    service_tier: str | None = None
    max_tool_calls: int | None = Field(None, ge=1)
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    background: bool | None = None
    background_options: dict[str, Any] | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    context_management: list[Any] | None = None
    moderation: dict[str, Any] | None = None
    access_programs: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    # Codex's own
    client_metadata: dict[str, Any] | None = None
    # vLLM's extensions
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
