"""Every route × every credential, both taken from the application: a route that is added is in it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.routing import Route

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tickertape.server.auth.access import Access, Role, access_of
from tickertape.server.auth.browsers import Browsers
from tickertape.server.auth.keyring import Keyring, make_key
from tickertape.server.auth.keys import digest_of
from tickertape.server.auth.session_keys import SessionKeys
from tickertape.server.calls.service import Service
from tickertape.server.commands.access_table import rules_table
from tickertape.server.http.body_limit import Bodies
from tickertape.server.observing.metrics import Metrics
from tickertape.server.serving import app as application
from tickertape.server.serving.app import ROUTERS, create_app
from tickertape.server.settings import AuthMode
from tickertape.server.store import keys as rows
from tickertape.server.store.store import Store

SECURITY = Path(__file__).parents[3] / "docs" / "security.md"
SECRET = "a secret of thirty-two characters, for session keys"
ADMIN, TRAINER, AGENT = (f"tt-{role}-{'0' * 64}" for role in ("admin", "trainer", "agent"))
SESSION, OTHER = "rollout-1", "rollout-2"
MINE = f"cfg{digest_of(AGENT)[:9]}.rollout-1"
ALL = {Access.AGENT, Access.TRAINER, Access.ADMIN}


@dataclass(frozen=True)
class Credential:
    """A key, and what is expected of it."""

    key: str | None
    may: frozenset[Access] = frozenset()
    """None: 401 wherever a key is asked for."""
    reaches: Callable[[str], bool] = lambda _: True


def own_routes() -> list[Route]:
    """Of the application and of FastAPI itself, not by way of the guard."""
    found = [*FastAPI().routes, *(route for router in ROUTERS for route in router.routes)]
    assert all(isinstance(route, Route) for route in found)
    return cast("list[Route]", found)


ROUTES = [(method, route) for route in own_routes() for method in sorted(route.methods or ())]


def credentials(tape: Path) -> dict[str, Credential]:
    """One of each kind; those that are on tape are put there."""
    now = time.time()
    expired, revoked = make_key(Role.ADMIN, "expired", -1), make_key(Role.ADMIN, "revoked", None)
    stored = {role: make_key(role, f"stored {role}", 3600) for role in Role}
    store = Store(tape)
    with store._database.writing() as connection:
        for made in (expired, revoked, *stored.values()):
            rows.add_key(connection, made.record, made.digest)
        rows.revoke_key(connection, revoked.record.id)
    store.close()
    signer, stranger = SessionKeys(SECRET.encode()), SessionKeys(b"the secret of another server, and as long")
    good = signer.make(SESSION, 3600).key
    assert now < time.time() + 1
    agents, trainers = frozenset({Access.AGENT}), frozenset({Access.AGENT, Access.TRAINER})
    stored_agent = f"{stored[Role.AGENT].record.id}."
    return {
        "none": Credential(None),
        "empty": Credential(""),
        "wrong": Credential("sk-wrong"),
        "wrong, of the right form": Credential(f"tt-admin-{'1' * 64}"),
        "the hash itself": Credential(f"sha256:{digest_of(ADMIN)}"),
        "session name": Credential(f"session-{SESSION}"),
        "expired": Credential(expired.key),
        "revoked": Credential(revoked.key),
        "session key, expired": Credential(signer.make(SESSION, -1).key),
        "session key, tampered": Credential(good[:-2] + ("AA" if good[-2:] != "AA" else "BB")),
        "session key, of another server": Credential(stranger.make(SESSION, 3600).key),
        "session key, cut short": Credential(good[:40]),
        "session key": Credential(good, agents, lambda session: session == SESSION),
        "session key of another session": Credential(
            signer.make(OTHER, 3600).key, agents, lambda session: session == OTHER
        ),
        "agent": Credential(AGENT, agents, lambda session: session == MINE),
        "agent, stored": Credential(stored[Role.AGENT].key, agents, lambda session: session.startswith(stored_agent)),
        "trainer": Credential(TRAINER, trainers),
        "trainer, stored": Credential(stored[Role.TRAINER].key, trainers),
        "admin": Credential(ADMIN, frozenset(ALL)),
        "admin, stored": Credential(stored[Role.ADMIN].key, frozenset(ALL)),
    }


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, dict[str, Credential]]]:
    directory = tmp_path_factory.mktemp("tape")
    given = credentials(directory / "tape.db")
    keys = {"admin_key": ADMIN, "trainer_key": f"sha256:{digest_of(TRAINER)}", "agent_key": AGENT}
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    with scripted(engine, directory, api_key=ADMIN, session_key_secret=SECRET, **keys) as proxy:
        yield proxy, given


def place(route: Route, session: str) -> str:
    return route.path_format.format(
        **{name: session if name == "session_id" else "x" for name in route.param_convertors}
    )


@pytest.mark.parametrize("place_of", ["authorization", "x-api-key"])
def test_every_route_by_every_credential(shown: tuple[Proxy, dict[str, Credential]], place_of: str) -> None:
    proxy, given = shown
    wrong = []
    with httpx.Client(base_url=proxy.url, timeout=10) as http:
        for method, route in ROUTES:
            for name, credential in given.items():
                for session in (SESSION, MINE):
                    key = credential.key
                    headers = (
                        {}
                        if key is None
                        else {place_of: f"Bearer {key}".strip() if place_of == "authorization" else key}
                    )
                    # No body that anybody would take: what is allowed is refused for another reason.
                    answer = http.request(method, place(route, session), headers=headers, content=b"{")
                    expected = said_by_rules(route, credential, session)
                    told = answer.status_code if answer.status_code in (401, 403) else None
                    if told != expected:
                        wrong.append((method, route.path, name, session, answer.status_code, expected))
    assert not wrong, wrong
    assert len(ROUTES) > 50


def said_by_rules(route: Route, credential: Credential, session: str) -> int | None:
    access = access_of(route.endpoint) or Access.OPEN  # FastAPI's own; those of ours have one, see below
    if access is Access.OPEN:
        return None
    if not credential.may:
        return 401
    names_session = "session_id" in route.param_convertors
    return None if access in credential.may and (not names_session or credential.reaches(session)) else 403


def test_without_authentication_nothing_is_asked_for(tmp_path: Path) -> None:
    with scripted(ScriptedEngine(lambda _ids, _sampling: [151645]), tmp_path, auth=AuthMode.OFF) as proxy:
        for method, route in ROUTES:
            for key in ("", "sk-anything", ADMIN):
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                answer = proxy.http.request(method, place(route, SESSION), headers=headers, content=b"{")
                assert answer.status_code not in (401, 403), (method, route.path)


def test_every_route_says_who_may_call_it() -> None:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, Route)
            assert access_of(route.endpoint) is not None, f"{route.path} has no @allow"


def test_the_documented_table_is_that_of_the_rules() -> None:
    assert rules_table(ROUTERS) in SECURITY.read_text(), "print it: python -m tickertape.server.commands.access_table"


class _Service:
    """Nothing but keys, of a server that asks for none, and what counts requests."""

    def __init__(self, path: Path) -> None:
        self.keyring = Keyring(Store(path), AuthMode.OFF)
        self.browsers = Browsers()
        self.tracing = None
        self.turns = SimpleNamespace(metrics=Metrics())
        self.bodies = Bodies(1000)


async def test_route_without_a_rule_is_refused_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()
    called: list[str] = []

    async def forgotten(request: Request) -> Response:
        called.append(request.url.path)
        return Response()

    router.add_api_route("/forgotten", forgotten, methods=["GET"])
    router.add_route("/forgotten/{session_id}", forgotten, methods=["POST"])
    monkeypatch.setattr(application, "ROUTERS", (*ROUTERS, router))
    app = create_app(cast("Service", _Service(tmp_path / "tape.db")))
    app.framework.add_api_route("/later", forgotten, methods=["GET"])
    app.framework.add_api_route("/health", forgotten, methods=["DELETE"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        assert (await http.get("/forgotten")).status_code == 403
        assert (await http.post("/forgotten/x")).status_code == 403
        assert (await http.get("/later")).status_code == 404
        assert (await http.delete("/health")).status_code == 405
        assert (await http.get("/health")).status_code == 200
    assert not called


def test_roles_are_ordered() -> None:
    """What a lesser key may do, a greater one may."""
    from tickertape.server.auth.access import Principal

    for lesser, greater in pairwise(Principal(role) for role in Role):
        assert {a for a in Access if lesser.may(a)} < {a for a in Access if greater.may(a)}
