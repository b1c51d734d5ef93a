"""Every call of the trainer API: its request, and what its answer means. No connection here, so that the sync and the
async client share all of it."""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tickertape.clients.samples import Sample, samples_of
from tickertape.clients.tape import Session, Turn, read

T = TypeVar("T")

#: Stands for "leave it as it is", where ``None`` means "take it back".
UNSET: Any = object()

API_KEY_VARIABLE = "TICKERTAPE_API_KEY"
#: Seconds for which an agent's key is good if nothing else is said.
KEY_LIFE = 86400.0

ARROW = "application/vnd.apache.arrow.stream"


class SessionFields(TypedDict, total=False):
    """Fields of a session that a trainer sets."""

    task_id: str | None
    group_id: str | None
    policy_version: str | None
    metadata: dict[str, Any]
    reward: float | None


class SampleOptions(TypedDict, total=False):
    """Options of how samples are made; ``docs/samples.md`` explains each."""

    per_turn: bool
    max_length: int
    cut: str
    outcomes: Sequence[str]
    drop_outcomes: Sequence[str]
    min_version: int
    current_version: str
    max_staleness: int


class SessionFilter(TypedDict, total=False):
    """Which sessions; every condition that is given must hold."""

    state: str
    task_id: str
    group_id: str
    policy_version: str
    outcome: str
    created_after: float
    created_before: float
    finished_after: float
    finished_before: float
    metadata: dict[str, Any]


class SampleQuery(SessionFilter, SampleOptions, total=False):
    """Samples of which sessions, and how they are made."""


class TrajectoryError(Exception):
    """The server refused, or could not do what was asked.

    Attributes:
        status: the HTTP status.
        code: the server's error code, such as ``session_not_found``.
    """

    def __init__(self, message: str, *, status: int, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards on tape."""

    reward: float | None
    turns: dict[str, float]
    """By turn id."""
    tokens: dict[str, list[float]]
    """By turn id; one for each token of its completion."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of finished sessions."""

    sessions: int
    samples: int
    sample_tokens: int
    sampled_tokens: int
    per_turn_tokens: int
    """Tokens of the samples if every sampled turn were one of its own."""
    open_sessions: int


@dataclass(frozen=True, slots=True)
class SamplePage:
    """Samples of some finished sessions."""

    batches: list[pa.RecordBatch]
    """Columns as ``docs/samples.md`` has them."""
    next: str
    """The place where the next page begins, now or when more sessions are finished."""
    more: bool
    """True if there were more already."""

    @property
    def samples(self) -> list[Sample]:
        return [sample for batch in self.batches for sample in samples_of(batch)]


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as the server knows it. Times are seconds since the epoch; counts are sessions."""

    id: str
    consumer: str
    created_at: float
    expires_at: float
    closed_at: float | None
    sessions: int
    acked: int
    released: int
    expired: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Samples that no other consumer gets while it lasts."""

    id: str | None
    """``None`` if there was nothing to lease."""
    expires_at: float
    samples: list[Sample]
    remaining: dict[str, int]
    """Sessions: ``available`` to lease, ``stale`` for this filter, ``leased`` to a consumer, ``open``."""


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    accept: str = "application/json"

    def request(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        headers = {"Accept": self.accept}
        content = None
        if self.body is not None:
            headers["Content-Type"] = "application/json"
            content = orjson.dumps(self.body, option=orjson.OPT_SERIALIZE_NUMPY)
        return client.build_request(self.method, self.path, params=self.params, content=content, headers=headers)

    def answer(self, response: httpx.Response) -> T:
        """Returns what a complete answer says.

        Raises:
            TrajectoryError: it is an error.
        """
        if response.is_success:
            return self.read(response)
        try:
            error = orjson.loads(response.content)["error"]
            message, code = error["message"], error["code"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            message, code = response.text[:500], None
        raise TrajectoryError(f"{response.request.url}: {message}", status=response.status_code, code=code)


def unreached(error: httpx.TransportError, request: httpx.Request) -> httpx.TransportError:
    """The same error with a text that says what was asked for: by itself it may be ``[Errno 111]``, or nothing."""
    what = "no server answers there" if isinstance(error, httpx.ConnectError) else type(error).__name__
    said = f" ({error})" if str(error) else ""
    return type(error)(f"{request.method} {request.url}: {what}{said}", request=request)


def credentials(api_key: str | None) -> dict[str, str]:
    """The headers that show a key: the one given, else that of the environment, else none."""
    key = api_key or os.environ.get(API_KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def session_path(session_id: str) -> str:
    return f"/sessions/{quote(session_id, safe='')}"


# Sessions.


def create_session(session_id: str | None, fields: SessionFields) -> ApiCall[Session]:
    return ApiCall("POST", "/sessions", _one(Session), body={"id": session_id, **fields})


def open_session(session_id: str | None, fields: SessionFields, key_expires_in: float) -> ApiCall[tuple[Session, str]]:
    """A new session, and a key for its agent."""

    def read_both(response: httpx.Response) -> tuple[Session, str]:
        told = orjson.loads(response.content)
        return read(Session, told), told["agent_key"]["key"]

    body = {"id": session_id, "key_expires_in": key_expires_in, **fields}
    return ApiCall("POST", "/sessions", read_both, body=body)


def session_key(session_id: str, expires_in: float) -> ApiCall[str]:
    path = f"{session_path(session_id)}/key"
    return ApiCall(
        "POST", path, lambda response: orjson.loads(response.content)["key"], body={"expires_in": expires_in}
    )


def get_session(session_id: str) -> ApiCall[Session]:
    return ApiCall("GET", session_path(session_id), _one(Session))


def update_session(session_id: str, fields: SessionFields) -> ApiCall[Session]:
    return ApiCall("PATCH", session_path(session_id), _one(Session), body=fields)


def finish_session(session_id: str) -> ApiCall[Session]:
    return ApiCall("POST", f"{session_path(session_id)}/finish", _one(Session))


def discard_session(session_id: str) -> ApiCall[Session]:
    return ApiCall("POST", f"{session_path(session_id)}/discard", _one(Session))


def delete_session(session_id: str) -> ApiCall[None]:
    return ApiCall("DELETE", session_path(session_id), lambda _: None)


def list_sessions(wanted: SessionFilter, limit: int, after: str | None) -> ApiCall[tuple[list[Session], str | None]]:
    """Sessions, and where the next page begins."""

    def read_page(response: httpx.Response) -> tuple[list[Session], str | None]:
        page = orjson.loads(response.content)
        return [read(Session, each) for each in page["sessions"]], page["next"]

    place = {"limit": limit} if after is None else {"limit": limit, "after": after}
    return ApiCall("GET", "/sessions", read_page, params={**_params(wanted), **place})


def list_turns(session_id: str, after: int, limit: int) -> ApiCall[list[Turn]]:
    def read_turns(response: httpx.Response) -> list[Turn]:
        return [read(Turn, each) for each in orjson.loads(response.content)["turns"]]

    params = {"after": after, "limit": limit}
    return ApiCall("GET", f"{session_path(session_id)}/turns", read_turns, params=params)


def get_array(session_id: str, turn_id: str, name: str) -> ApiCall[npt.NDArray[Any]]:
    def read_array(response: httpx.Response) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.load(io.BytesIO(response.content), allow_pickle=False)
        return array

    path = f"{session_path(session_id)}/turns/{quote(turn_id, safe='')}/arrays/{quote(name, safe='')}"
    return ApiCall("GET", path, read_array, accept="application/octet-stream")


def set_rewards(
    session_id: str,
    reward: float | None,
    turns: Mapping[str, float | None] | None,
    tokens: Mapping[str, Any] | None,
) -> ApiCall[Rewards]:
    body: dict[str, Any] = {} if reward is UNSET else {"reward": reward}
    if turns is not None:
        body["turns"] = turns
    if tokens is not None:
        body["tokens"] = tokens
    return ApiCall("POST", f"{session_path(session_id)}/reward", _one(Rewards), body=body)


def get_rewards(session_id: str) -> ApiCall[Rewards]:
    return ApiCall("GET", f"{session_path(session_id)}/reward", _one(Rewards))


# Samples.


def session_samples(session_id: str, options: SampleOptions) -> ApiCall[list[Sample]]:
    def read_samples(response: httpx.Response) -> list[Sample]:
        return [sample for batch in _batches(response) for sample in samples_of(batch)]

    path = f"{session_path(session_id)}/samples"
    return ApiCall("GET", path, read_samples, params=_params(options), accept=ARROW)


def sample_page(wanted: SampleQuery, limit: int, max_tokens: int, after: str) -> ApiCall[SamplePage]:
    def read_page(response: httpx.Response) -> SamplePage:
        more = response.headers["X-Tickertape-More"] == "true"
        return SamplePage(list(_batches(response)), response.headers["X-Tickertape-Next"], more)

    params = {**_params(wanted), "limit": limit, "max_tokens": max_tokens, "after": after}
    return ApiCall("GET", "/samples", read_page, params=params, accept=ARROW)


def summarise(wanted: SessionFilter, after: str) -> ApiCall[Summary]:
    return ApiCall("GET", "/samples/summary", _one(Summary), params={**_params(wanted), "after": after})


# Leases.


def take_lease(consumer: str, wanted: SampleQuery, limit: int, max_tokens: int, expires_in: float) -> ApiCall[Lease]:
    body = {
        "consumer": consumer,
        "limit": limit,
        "max_tokens": max_tokens,
        "expires_in": expires_in,
        "filter": {name: value for name, value in wanted.items() if name in SessionFilter.__annotations__},
        "options": {name: value for name, value in wanted.items() if name in SampleOptions.__annotations__},
    }
    return ApiCall("POST", "/samples/lease", _read_lease, body=body, accept=ARROW)


def lease_state(lease_id: str) -> ApiCall[LeaseState]:
    return ApiCall("GET", _lease_path(lease_id), _one(LeaseState))


def leased_samples(lease_id: str) -> ApiCall[Lease]:
    return ApiCall("GET", f"{_lease_path(lease_id)}/samples", _read_lease, accept=ARROW)


def ack_lease(lease_id: str, sessions: Sequence[str] | None) -> ApiCall[LeaseState]:
    return ApiCall("POST", f"{_lease_path(lease_id)}/ack", _one(LeaseState), body={"sessions": sessions})


def release_lease(lease_id: str, sessions: Sequence[str] | None) -> ApiCall[LeaseState]:
    return ApiCall("POST", f"{_lease_path(lease_id)}/release", _one(LeaseState), body={"sessions": sessions})


def extend_lease(lease_id: str, expires_in: float) -> ApiCall[LeaseState]:
    return ApiCall("POST", f"{_lease_path(lease_id)}/extend", _one(LeaseState), body={"expires_in": expires_in})


# Retention.


def retain(limits: Mapping[str, Any]) -> ApiCall[dict[str, Any]]:
    return ApiCall("POST", "/retention", lambda response: orjson.loads(response.content), body=limits)


def _lease_path(lease_id: str) -> str:
    return f"/samples/lease/{quote(lease_id, safe='')}"


def _read_lease(response: httpx.Response) -> Lease:
    said = response.headers.get("X-Tickertape-Remaining", "")
    remaining = dict(part.split("=") for part in said.split(", ") if part)
    return Lease(
        id=response.headers.get("X-Tickertape-Lease"),
        expires_at=float(response.headers.get("X-Tickertape-Lease-Expires", "nan")),
        samples=[sample for batch in _batches(response) for sample in samples_of(batch)],
        remaining={name: int(number) for name, number in remaining.items()},
    )


def _one(kind: type[T]) -> Callable[[httpx.Response], T]:
    return lambda response: read(kind, orjson.loads(response.content))


def _batches(response: httpx.Response) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_stream(response.content) as reader:
        yield from reader


def _params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Query parameters as the server reads them: lists by commas, metadata by key, its values as JSON."""
    params: dict[str, Any] = {}
    for name, value in values.items():
        if name == "metadata":
            params |= {f"metadata.{key}": orjson.dumps(wanted).decode() for key, wanted in value.items()}
        elif isinstance(value, list | tuple):
            params[name] = ",".join(value)
        else:
            params[name] = value
    return params
