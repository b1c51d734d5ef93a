"""The reader of requests that protocols share: JSON, held to types, faults named by their place.

Null means not sent. A field that a protocol lists is honoured, kept for the record or refused; any other one is outside
it and is reported as ignored (NOTHING-SILENT).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from tickertape.clients.engines.engine import Sampling
from tickertape.renderers.json_text import levels
from tickertape.renderers.messages import Message
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import ToolChoice

#: Fields of a protocol that would change what is sampled and cannot be honoured: those values that mean "nothing
#: special", and what to say of others.
Refused: TypeAlias = Mapping[str, tuple[tuple[Any, ...], str]]
#: Wishes about style, cost or speed, which no request fails for: those values that ask for what is so anyway. Others
#: are kept on the turn and named as ignored.
Wishes: TypeAlias = Mapping[str, tuple[Any, ...]]
#: Of OpenAI's ``stream_options``: streams are not padded here.
PADDED: Wishes = {"include_obfuscation": (False,)}


class Fields(BaseModel):
    """Fields of a request, or of a part of it. Numbers in strings and the like are no numbers; fields that are not
    listed are kept apart."""

    model_config = ConfigDict(extra="allow", strict=True)


Model = TypeVar("Model", bound=BaseModel)


#: Levels of lists and objects in a body. What is read is written again, on the tape and in answers, by a writer that
#: goes 254 levels deep: what it could not write must not be sampled for.
MOST_DEPTH = 128
#: Lists and objects, and values in them, that one body may have. Types are checked in one go, in which nothing else of
#: the server runs: about 0.1 s for so many.
MOST_CONTAINERS = 30_000
MOST_VALUES = 2_000_000


def read_object(body: bytes) -> dict[str, Any]:
    """A request's body as a JSON object.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid_json") from error
    if body.count(b"[") + body.count(b"{") > MOST_DEPTH or len(body) > MOST_VALUES:
        _check_extent(given)
    if not isinstance(given, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {_kind(given)}", code="invalid_json")
    return given


def _check_extent(given: Any) -> None:
    """
    Raises:
        InvalidRequest: it is nested too deeply, or of more parts than are read.
    """
    containers = values = 0
    for depth, level in enumerate(levels(given), 1):
        if depth > MOST_DEPTH:
            raise InvalidRequest(f"the body is nested more than {MOST_DEPTH} levels deep", code="invalid_json")
        containers += len(level)
        values += sum(map(len, level))
        if containers > MOST_CONTAINERS or values > MOST_VALUES:
            text = f"the body has more than {MOST_CONTAINERS} objects and lists, or {MOST_VALUES} values in them"
            raise InvalidRequest(text, code="request_too_large")


def read_fields(model: type[Model], given: Any, place: str = "") -> Model:
    """A JSON value as the model of its fields.

    Args:
        model: the fields.
        given: the value.
        place: where in the request it stands, such as ``messages[0].content[2]``.

    Raises:
        InvalidRequest: a field is missing, or has the wrong type or value; its place is named.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _first_finding(error, place) from error


def refuse(fields: BaseModel, refused: Refused, prefix: str = "") -> None:
    """
    Raises:
        InvalidRequest: a field that cannot be honoured was sent, with a value that is not harmless.
    """
    for name, (harmless, reason) in refused.items():
        value = getattr(fields, name)
        if value is not None and value not in harmless:
            raise InvalidRequest(reason, param=prefix + _sent_as(fields, name), code="unsupported_value")


@dataclass(slots=True)
class History:
    """A conversation as a request has it."""

    messages: list[Message] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """Fields and parts that are not used, by their path."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Parts that text models cannot read, by their path."""


def left_out(kind: str, place: str, unreadable: dict[str, str]) -> str:
    """The text that the model reads in place of a part that it cannot read: a tool that shows a picture is called by
    the model, whose episode must not end with it.

    Args:
        kind: what the part is, such as ``image``.
        place: its path.
        unreadable: gets a note of it.
    """
    unreadable[place] = kind
    return f"[{kind} left out: you can read text only]"


def unmet(fields: BaseModel, wishes: Wishes, prefix: str = "") -> Iterator[str]:
    """Wishes that were sent and are not met, by their path."""
    unmet = [name for name, met in wishes.items() if getattr(fields, name) not in (None, *met)]
    return (prefix + _sent_as(fields, name) for name in unmet)


def _sent_as(fields: BaseModel, name: str) -> str:
    """A field's name in the protocol."""
    return type(fields).model_fields[name].alias or name


def recorded_fields(fields: BaseModel, names: Sequence[str]) -> dict[str, Any]:
    """Those of the named fields that were sent, for the record."""
    return {name: value for name in names if (value := getattr(fields, name)) is not None}


def extras(fields: BaseModel, prefix: str = "") -> Iterator[str]:
    """Fields outside the protocol that were sent, by their path."""
    return (prefix + name for name, value in (fields.model_extra or {}).items() if value is not None)


def sampling(stop: Sequence[str], stop_param: str, **given: Any) -> Sampling:
    """Sampling parameters as a client sent them; the rest are :class:`Sampling`'s defaults, which are OpenAI's and
    Anthropic's. ``max_tokens`` is the request's own affair.

    Args:
        stop: stop strings.
        stop_param: the protocol's name for them.
        given: other parameters by name; null is not sent.

    Raises:
        InvalidRequest: a stop string is empty.
    """
    if not all(stop):
        raise InvalidRequest("a stop string must not be empty", param=stop_param)
    values = {name: value for name, value in given.items() if value is not None}
    return Sampling(max_tokens=0, stop=tuple(stop), **values)


class HasSampling(Protocol):
    """Sampling parameters as OpenAI and vLLM call them."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: str | list[str] | None
    stop_token_ids: list[int] | None
    ignore_eos: bool | None
    min_tokens: int | None


def openai_sampling(
    given: HasSampling, *, top_logprobs: int | None, bias: Mapping[str, float] | None = None
) -> Sampling:
    """:func:`sampling` from the fields that OpenAI's protocols have in common.

    Raises:
        InvalidRequest: a stop string is empty, or a bias is none.
    """
    return sampling(
        (given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ()),
        "stop",
        temperature=given.temperature,
        top_p=given.top_p,
        top_k=given.top_k or -1,
        min_p=given.min_p,
        presence_penalty=given.presence_penalty,
        frequency_penalty=given.frequency_penalty,
        repetition_penalty=given.repetition_penalty,
        seed=given.seed,
        stop_token_ids=tuple(given.stop_token_ids or ()),
        ignore_eos=given.ignore_eos,
        min_tokens=given.min_tokens,
        logit_bias=logit_bias(bias or {}),
        top_logprobs=top_logprobs,
    )


def logit_bias(given: Mapping[str, float]) -> dict[int, float]:
    """Biases by token id, which JSON's keys have as text.

    Raises:
        InvalidRequest: a key is no id, or a bias is beyond 100.
    """
    for token, bias in given.items():
        if not token.isdecimal() or not -100 <= bias <= 100:
            raise InvalidRequest(
                f"logit_bias maps token ids to numbers from -100 to 100, not {token!r} to {bias!r}", param="logit_bias"
            )
    return {int(token): bias for token, bias in given.items()}


def template_options(given: Mapping[str, Any] | None, effort: str | None, param: str) -> dict[str, Any]:
    """Options of the model's template that were sent. The format refuses what it does not have.

    Args:
        given: ``chat_template_kwargs``.
        effort: of the protocol's own field, which is a wish.
        param: that field's name.

    Raises:
        InvalidRequest: the two name different efforts.
    """
    options = dict(given or {})
    if effort is not None and options.get("reasoning_effort", effort) != effort:
        raise InvalidRequest(f"{param} and chat_template_kwargs.reasoning_effort differ: send one", param=param)
    return options


def must_call(names: Sequence[str], offered: Sequence[str], *, parallel: bool) -> ToolChoice | None:
    """The choice that makes the model call one of the named tools, or of all that are offered if none is named.
    ``None`` where they are not offered."""
    if not offered or not set(names) <= set(offered):
        return None
    return ToolChoice(must_call=True, names=tuple(names), parallel=parallel)


def _first_finding(error: ValidationError, place: str) -> InvalidRequest:
    """The first of pydantic's findings, in a person's words."""
    finding = error.errors(include_url=False)[0]
    for part in finding["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part in ("str", "bool") or part.startswith(("list[", "dict[", "function-")):
            continue  # the member of a union that was tried, not a field
        else:
            place += f".{part}" if place else part
    if finding["type"] == "missing":
        return InvalidRequest(f"{place} is missing", param=place, code="missing_field")
    shown = "" if isinstance(finding["input"], dict | list) else f", got {finding['input']!r:.200}"
    return InvalidRequest(f"{place}: {finding['msg']}{shown}", param=place, code="invalid_value")


def _kind(value: Any) -> str:
    return {list: "an array", str: "a string", type(None): "null"}.get(type(value), "a number or boolean")
