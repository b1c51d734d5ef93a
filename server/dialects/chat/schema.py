"""OpenAI's ``POST /v1/chat/completions``: its fields and their types.

Source: openai-python 3.x, ``types/chat/completion_create_params.py``; vLLM's extensions are at the end. Fields that
are not listed are outside the protocol.
"""

from typing import Any, Literal

from pydantic import Field

from tickertape.server.dialects.reading import Fields


class FunctionCall(Fields):
    name: str
    arguments: str | dict[str, Any] = "{}"
    parsed_arguments: Any = None
    """openai-python's own reading of ``arguments``, which it sends back with the message; so is ``parsed`` below."""


class ChatToolCall(Fields):
    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None
    """Its place in the message, which clients that add up a stream may leave in."""


class ThoughtPart(Fields):
    type: Literal["text"] = "text"
    text: str


class ContentPart(Fields):
    type: str
    text: str | None = None
    refusal: str | None = None
    thinking: str | list[ThoughtPart] | None = None
    """Mistral's and others' way to send a thought back."""
    signature: str | None = None
    annotations: list[Any] | None = None
    image_url: Any = None
    input_audio: Any = None
    audio_url: Any = None
    video_url: Any = None
    file: Any = None


class ChatMessage(Fields):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    parsed: Any = None
    provider_specific_fields: Any = None
    """LiteLLM's copies of what it got beyond OpenAI's fields, which it sends back beside the fields themselves."""


class FunctionDefinition(Fields):
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChatTool(Fields):
    type: Literal["function"]
    function: FunctionDefinition


class JsonSchema(Fields):
    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Fields):
    type: str
    json_schema: JsonSchema | None = None


class StructuredOutputs(Fields):
    """vLLM's."""

    json_: str | dict[str, Any] | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = Field(None, min_length=1)
    grammar: str | None = None
    structural_tag: str | dict[str, Any] | None = None


class StreamOptions(Fields):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Fields):
    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    tools: list[ChatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    n: int | None = Field(None, ge=1, le=128)
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: str | dict[str, Any] | None = None
    service_tier: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    # vLLM's extensions
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    structured_outputs: StructuredOutputs | None = None
    return_token_ids: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
