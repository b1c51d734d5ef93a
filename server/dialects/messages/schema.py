"""Anthropic's ``POST /v1/messages`` and ``/v1/messages/count_tokens``: their fields and their types.

Source: anthropic-sdk-python 2.x, ``types/message_create_params.py`` and ``types/beta/message_create_params.py``. Fields
that are not listed are outside the protocol. ``cache_control`` stands wherever the protocol has it: engines cache every
prefix, so that marks change nothing.
"""

from typing import Any, Literal, TypeAlias

from pydantic import Field

from tickertape.server.dialects.reading import Fields

CacheControl: TypeAlias = dict[str, Any]


class TextBlock(Fields):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None


class MediaBlock(Fields):
    """A block that is no text, or a text in a file's place."""

    type: Literal["image", "document"]
    source: dict[str, Any] | None = None
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(Fields):
    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Fields):
    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Fields):
    type: Literal["tool_use"]
    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class ToolResultBlock(Fields):
    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1)
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class AnthropicMessage(Fields):
    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class CustomTool(Fields):
    type: Literal["custom"] | None = None
    name: str = Field(min_length=1)
    description: str | None = None
    input_schema: dict[str, Any]
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None


class AnthropicToolChoice(Fields):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Fields):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(None, ge=1024)
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Fields):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Fields):
    format: OutputFormat | None = None
    effort: str | None = None


class CountRequest(Fields):
    """The fields that a prompt is made of."""

    model: str
    messages: list[AnthropicMessage] = Field(min_length=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: CacheControl | None = None
    container: str | dict[str, Any] | None = None
    context_management: dict[str, Any] | None = None
    mcp_servers: list[dict[str, Any]] | None = None
    speed: str | None = None
    user_profile_id: str | None = None


class MessagesRequest(CountRequest):
    max_tokens: int = Field(ge=1)
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    diagnostics: dict[str, Any] | None = None
    fallbacks: list[Any] | str | dict[str, Any] | None = None
    compaction: dict[str, Any] | None = None
    thread: dict[str, Any] | None = None
