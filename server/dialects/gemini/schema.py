"""Google's ``POST /v1beta/models/{model}:generateContent``, ``:streamGenerateContent`` and ``:countTokens``: their
fields and their types.

Source: ``google/genai/types.py`` of google-genai 3.x, and https://ai.google.dev/api/generate-content. As the API does,
names are taken in camel case and with underscores. Fields that are not listed are outside the protocol.
"""

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from tickertape.server.dialects.reading import Fields


class GeminiFields(Fields):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Blob(GeminiFields):
    """Bytes, or a place where they are."""

    mime_type: str | None = None
    data: str | None = None
    file_uri: str | None = None
    display_name: str | None = None


class FunctionCall(GeminiFields):
    id: str | None = None
    name: str = Field(min_length=1)
    args: dict[str, Any] | None = None


class ResponsePart(GeminiFields):
    inline_data: Blob | None = None
    file_data: Blob | None = None


class FunctionResponse(GeminiFields):
    id: str | None = None
    name: str | None = None
    response: dict[str, Any] | None = None
    parts: list[ResponsePart] | None = None


class Part(GeminiFields):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: Blob | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(GeminiFields):
    role: Literal["user", "model", "function", "tool", "system"] | None = None
    parts: list[Part] | None = None


class FunctionDeclaration(GeminiFields):
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class Tool(GeminiFields):
    function_declarations: list[FunctionDeclaration] | None = None


class FunctionCallingConfig(GeminiFields):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(GeminiFields):
    function_calling_config: FunctionCallingConfig | None = None


class ThinkingConfig(GeminiFields):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(GeminiFields):
    stop_sequences: list[str] | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    response_modalities: list[str] | None = None
    candidate_count: int | None = Field(None, ge=1, le=128)
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: float | None = Field(None, ge=0)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    response_logprobs: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    thinking_config: ThinkingConfig | None = None
    media_resolution: str | None = None
    speech_config: dict[str, Any] | None = None


class GenerateRequest(GeminiFields):
    model: str | None = None
    contents: list[Content] = Field(min_length=1)
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    safety_settings: list[dict[str, Any]] | None = None
    generation_config: GenerationConfig | None = None
    cached_content: str | None = None
    labels: dict[str, Any] | None = None
    service_tier: str | None = None


class CountRequest(GeminiFields):
    """Contents alone, or a complete request."""

    contents: list[Content] | None = Field(None, min_length=1)
    generate_content_request: GenerateRequest | None = None
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
