"""The answers of routes, for the OpenAPI document: types that no code here needs, since answers are written as dicts.

What is a dataclass already is taken from it (:func:`told`). An answer may have more fields than a shape lists.
"""

import dataclasses
from typing import Any, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, RootModel, create_model

from tickertape.clients.engines.pool import MemberState
from tickertape.clients.samples import Sample
from tickertape.server.policy.gate import Pausing
from tickertape.server.store.arrays import ArrayFacts
from tickertape.server.store.keys import KeyRecord
from tickertape.server.store.leases import LeaseRecord, Remaining
from tickertape.server.store.sessions import SessionRecord
from tickertape.server.trajectories.turn import Turn

#: Numpy arrays as JSON has them, named per field below: what numpy's own types look like differs between its versions.
_Ints: TypeAlias = list[int]
_Floats: TypeAlias = list[float | None]  # NaN is null


def told(kind: Any, **changed: Any) -> type[BaseModel]:
    """Makes a model of a dataclass as it is sent in JSON.

    Args:
        kind: the dataclass.
        changed: fields that are sent otherwise, arrays among them, or are sent besides; ``None`` for those that are not
            sent.
    """
    own = {field.name for field in dataclasses.fields(kind)}
    types = {name: hint for name, hint in get_type_hints(kind).items() if name in own} | changed
    given: dict[str, Any] = {name: (type_, ...) for name, type_ in types.items() if type_ is not None}
    return create_model(kind.__name__, **given)


TurnJson = told(
    Turn,
    prompt_delta=_Ints,
    completion=_Ints,
    logprobs=_Floats,
    token_arrays=None,
    arrays=dict[str, ArrayFacts],
    context_digest=str,
)
SampleJson = told(Sample, token_ids=_Ints, loss_mask=_Ints, logprobs=_Floats, token_rewards=_Floats | None)


class OpenAIErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    error: OpenAIErrorBody


class AnthropicErrorBody(BaseModel):
    type: str
    message: str


class AnthropicError(BaseModel):
    type: Literal["error"]
    error: AnthropicErrorBody


class Alive(BaseModel):
    name: Literal["tickertape"]


class Status(BaseModel):
    status: Literal["ok", "ready"]


class NotReady(BaseModel):
    status: Literal["not_ready"]
    reason: str


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    object: Literal["list"]
    data: list[Model]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(BaseModel):
    role: Literal["assistant"]
    content: str | None


class ChatChoice(BaseModel):
    index: int
    message: ChatAnswer
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class MessageUsage(BaseModel):
    input_tokens: int
    output_tokens: int


class AnthropicAnswer(BaseModel):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage


class CountedInput(BaseModel):
    object: Literal["response.input_tokens"]
    input_tokens: int


class CountedTokens(BaseModel):
    input_tokens: int


class GeminiCandidate(BaseModel):
    index: int
    content: dict[str, Any]
    finishReason: Literal["STOP", "MAX_TOKENS"]  # noqa: N815  (the protocol's names)
    logprobsResult: dict[str, Any] | None = None  # noqa: N815


class GeminiAnswer(BaseModel):
    responseId: str  # noqa: N815
    modelVersion: str  # noqa: N815
    candidates: list[GeminiCandidate]
    usageMetadata: dict[str, int]  # noqa: N815


class GeminiCount(BaseModel):
    totalTokens: int  # noqa: N815


class GeminiModel(BaseModel):
    name: str
    displayName: str  # noqa: N815
    inputTokenLimit: int  # noqa: N815
    outputTokenLimit: int  # noqa: N815
    supportedGenerationMethods: list[str]  # noqa: N815


class GeminiModels(BaseModel):
    models: list[GeminiModel]


class GoogleErrorBody(BaseModel):
    code: int
    message: str
    status: str
    details: list[dict[str, Any]]


class GoogleError(BaseModel):
    error: GoogleErrorBody


class AnyError(RootModel[OpenAIError | GoogleError]):
    """Of a route that several protocols have."""


class AnyModel(RootModel[Model | GeminiModel]):
    pass


class AnyModels(RootModel[Models | GeminiModels]):
    pass


class GeminiAnswerOrCount(RootModel[GeminiAnswer | GeminiCount]):
    pass


class ResponseObject(BaseModel):
    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    instructions: str | None
    model: str
    output: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    usage: dict[str, Any] | None


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(BaseModel):
    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool


class Tokenized(BaseModel):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(BaseModel):
    prompt: str


class SessionPage(BaseModel):
    sessions: list[SessionRecord]
    next: str | None


class Keys(BaseModel):
    keys: list[KeyRecord]


class Turns(BaseModel):
    session_id: str
    turns: list[TurnJson]  # type: ignore[valid-type]


class _Samples(BaseModel):
    samples: list[SampleJson]  # type: ignore[valid-type]


class SessionSamples(_Samples):
    session_id: str
    statistics: dict[str, int | None] | None
    left_out: dict[str, str]


class SamplePage(_Samples):
    next: str
    more: bool


class Leased(_Samples):
    lease: LeaseRecord | None
    remaining: Remaining


class LeasedAgain(_Samples):
    lease: LeaseRecord


class EngineShown(BaseModel):
    name: str
    kind: str | None
    url: str | None
    state: MemberState
    reason: str | None
    model: str | None
    software_version: str | None
    endpoint: str | None
    features: list[str] | None
    missing: dict[str, str] | None
    logprobs: str | None
    adapters: list[str] | None
    max_context: int | None
    policy_version: str | None
    running: int
    running_tokens: int
    limit: int | None
    last_error: str | None
    served: int
    failed: int


class Engines(BaseModel):
    engines: list[EngineShown]
    expected_version: str | None
    waiting: int


class PolicyShown(BaseModel):
    version: str | None
    paused: Pausing | None
    paused_at: float | None
    running: int
    waiting: int


class PolicyChanged(PolicyShown):
    engines: dict[str, str]


Shape: TypeAlias = Any
"""A type that pydantic knows a JSON schema for."""
