"""The OpenAPI document is true: what is generated from it is answered as it says, over real HTTP."""

import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, cast
from zlib import crc32

import pytest
import schemathesis
from fastapi import APIRouter
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.conftest import Proxy, scripted
from tests.server.test_arrays import BOTH, FakeExpertsEngine
from tickertape.server.app import ROUTERS, create_app
from tickertape.server.openapi import OPERATIONS, UndescribedRoute, describe
from tickertape.server.service import Service

END = 151645
HELLO = [{"role": "user", "content": "Hello"}]
APP = create_app(cast(Service, None))  # the document needs none
DOCUMENT = APP.openapi()
#: Of each operation; the long run has more, see docs/protocols.md.
EXAMPLES = int(os.environ.get("TICKERTAPE_OPENAPI_EXAMPLES", "5"))
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

schema = (
    schemathesis.openapi.from_dict(DOCUMENT)
    # Later calls of agents would wait until somebody resumes.
    .exclude(path="/admin/policy/pause", method="POST")
    # Later calls would have no engine.
    .exclude(path="/admin/engines/{name}", method="DELETE")
)


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


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_calls_are_answered_as_the_document_says(
    case: schemathesis.Case, proxy: Proxy, things: Mapping[str, str]
) -> None:
    _aim(case.path_parameters, things)
    _aim(case.body, things)
    case.call_and_validate(base_url=proxy.url, checks=CHECKS)


def _aim(given: Any, things: Mapping[str, str]) -> None:
    """Names things that are there, in most cases: what is generated never does."""
    if not isinstance(given, dict):
        return
    for name, value in given.items():
        if name in things and isinstance(value, str) and crc32(value.encode(errors="replace")) % 4:
            given[name] = things[name]


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
    routed = {(route.path, method) for router in ROUTERS for route in router.routes for method in route.methods}
    assert described == routed
    assert OPERATIONS.keys() == {route.endpoint for router in ROUTERS for route in router.routes}


def test_route_that_nobody_described_is_an_error() -> None:
    router = APIRouter()

    @router.get("/new")
    async def new() -> None: ...

    with pytest.raises(UndescribedRoute, match="/new"):
        describe(APP, router.routes)
