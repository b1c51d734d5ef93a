"""The OpenAPI document is true: what is generated from it is answered as it says, over real HTTP."""

import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, cast
from zlib import crc32

import pytest
import schemathesis
from fastapi import APIRouter
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.conftest import Proxy, scripted
from tests.server.routes.test_arrays import BOTH, FakeExpertsEngine
from tickertape.server.calls.calls import MIN_VERSION_HEADER
from tickertape.server.calls.service import Service
from tickertape.server.serving.app import ROUTERS, create_app
from tickertape.server.serving.openapi import UndescribedRoute, describe

END = 151645
HELLO = [{"role": "user", "content": "Hello"}]
APP = create_app(cast("Service", None)).framework  # the document needs none
DOCUMENT = APP.openapi()
#: Of each operation; the long run has more, see docs/protocols.md.
EXAMPLES = int(os.environ.get("TICKERTAPE_OPENAPI_EXAMPLES", "5"))
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

#: Every boundary of every field as well: some thousand calls.
THOROUGH = EXAMPLES > 5

schema = (
    schemathesis.openapi.from_dict(DOCUMENT)
    # Later calls of agents would wait until somebody resumes.
    .exclude(path="/admin/policy/pause", method="POST")
    # Later calls would have no engine.
    .exclude(path="/admin/engines/{name}", method="DELETE")
)
schema.config.phases.coverage.enabled = THOROUGH


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = FakeExpertsEngine(lambda _ids, _sampling: [9707, 13, END])
    with scripted(engine, tmp_path_factory.mktemp("tape"), token_arrays=BOTH) as proxy:
        yield proxy


@pytest.fixture
def things(proxy: Proxy) -> Mapping[str, str]:
    """One of each kind of thing that paths name."""
    finished, session = uuid.uuid4().hex, uuid.uuid4().hex
    for name in (finished, session):
        assert proxy.chat(name, HELLO).status_code == 200
    assert proxy.http.post(f"/sessions/{finished}/finish").status_code == 200
    lease = proxy.http.post("/samples/lease", json={"consumer": "test"}).json()["lease"]
    response = proxy.http.post("/v1/responses", json={"model": proxy.model, "input": "Hello"})
    return {
        "session_id": session,
        "turn_id": proxy.tape.turns(session)[0].id,
        "name": BOTH[0],
        "lease_id": lease["id"],
        "response": response.json()["id"],
        "model": proxy.model,
    }


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # what failed is told as it is: to make it smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_calls_are_answered_as_the_document_says(
    case: schemathesis.Case, proxy: Proxy, things: Mapping[str, str]
) -> None:
    _aim(case.path_parameters, things)
    _aim(case.body, things)
    case.headers.pop(MIN_VERSION_HEADER, None)  # a version that no engine has yet is waited for
    case.call_and_validate(base_url=proxy.url, checks=CHECKS)


def _aim(given: Any, things: Mapping[str, str]) -> None:
    """Names things that are there, in most cases: what is generated never does."""
    if not isinstance(given, dict):
        return
    for name, value in given.items():
        if name in things and isinstance(value, str) and crc32(value.encode(errors="replace")) % 4:
            given[name] = things[name]


HUGE, LONE = 10**30, '"\\ud800"'


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/sessions/{{session_id}}/turns?after={HUGE}", None),
        ("GET", f"/samples?after={HUGE}", None),
        ("GET", f"/samples?max_length={HUGE}", None),
        ("GET", "/sessions?metadata.a=18446744073709551615", None),
        ("GET", "/sessions?metadata.a%00b=1", None),
        ("POST", "/sessions", f'{{"metadata": {{"a": {HUGE}}}}}'),
        ("POST", "/sessions", f'{{"metadata": {{"a": {LONE}}}}}'),
        ("PATCH", "/sessions/{session_id}", f'{{"task_id": {LONE}}}'),
        ("POST", "/sessions/{session_id}/reward", f'{{"turns": {{{LONE}: 1}}}}'),
        ("POST", "/sessions/{session_id}/reward", '{"tokens": {"{turn_id}": [1e300, 0, 0]}}'),
        ("POST", "/samples/lease", f'{{"consumer": "c", "filter": {{"metadata": {{"a": {HUGE}}}}}}}'),
        ("POST", "/samples/lease", f'{{"consumer": "c", "filter": {{"task_id": {LONE}}}}}'),
        ("POST", "/samples/lease", f'{{"consumer": "c", "options": {{{LONE}: 1}}}}'),
    ],
)
def test_value_that_no_tape_can_hold_is_refused(
    proxy: Proxy, things: Mapping[str, str], method: str, path: str, body: str | None
) -> None:
    path = path.format(**things)
    content = None if body is None else body.replace("{turn_id}", things["turn_id"])
    answer = proxy.http.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), answer.text


@pytest.mark.parametrize("query", [f"min_version=-{HUGE}", f"current_version=v{HUGE}&max_staleness={10 * HUGE}"])
def test_bound_beyond_every_version_bounds_nothing(proxy: Proxy, things: Mapping[str, str], query: str) -> None:
    assert proxy.http.get(f"/samples?{query}").status_code == 200


def test_every_operation_says_what_it_takes_and_answers() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert {"500"} <= responses.keys(), (method, path)
            assert "422" not in responses, (method, path)
            for status, response in responses.items():
                assert "content" in response or status == "204", (method, path, status)
                assert all(content["schema"] for content in response.get("content", {}).values()), (method, path)
            assert operation["description"], (method, path)


def test_every_route_of_the_application_is_in_the_document() -> None:
    described = {(path, method.upper()) for path, found in DOCUMENT["paths"].items() for method in found}
    routed = {(route.path_format, method) for router in ROUTERS for route in router.routes for method in route.methods}
    assert described == routed


def test_route_that_nobody_described_is_an_error() -> None:
    router = APIRouter()

    @router.get("/new")
    async def new() -> None: ...

    with pytest.raises(UndescribedRoute, match="/new"):
        describe(APP, router.routes)
