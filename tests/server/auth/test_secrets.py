"""No secret is told again: not in logs, errors, lists of engines, the OpenAPI document, or on the tape."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tickertape.server.serving.assembly import make_parts
from tickertape.server.settings import Settings, SettingsError
from tickertape.server.settings.sources import load, shown
from tickertape.server.store.store import Store, StoreError

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
ADMIN, TRAINER, AGENT = (
    f"tt-{role}-{digit * 64}" for role, digit in (("admin", "a"), ("trainer", "b"), ("agent", "c"))
)
SIGNING = "the-signing-secret-" + "d" * 32
ENGINE_KEY, URL_PASSWORD, QUERY, WRONG = "engine-key-eeee", "url-password-ffff", "query-secret-gggg", "sk-wrong-hhhh"
DB_PASSWORD = "db-password-iiii"
SECRETS = (ADMIN, TRAINER, AGENT, SIGNING, ENGINE_KEY, URL_PASSWORD, QUERY, WRONG, DB_PASSWORD)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tape")


@pytest.fixture(scope="module")
def proxy(directory: Path) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    keys = {"admin_key": ADMIN, "trainer_key": TRAINER, "agent_key": AGENT, "session_key_secret": SIGNING}
    with scripted(engine, directory, api_key=ADMIN, engine_api_key=ENGINE_KEY, **keys) as proxy:
        yield proxy


def test_nothing_tells_a_secret(proxy: Proxy, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    body = {"model": proxy.model, "messages": HELLO}
    session_key = proxy.http.post("/sessions", json={"key_expires_in": 600}).json()["agent_key"]["key"]
    made = proxy.http.post("/admin/keys", json={"role": "trainer", "name": "t"}).json()["key"]

    def ask(method: str, path: str, **more: Any) -> None:
        answer = proxy.http.request(method, path, **more)
        told.append(f"{answer.status_code} {answer.headers} {answer.text}")

    shown_in: list[dict[str, str]] = []
    for key in (ADMIN, TRAINER, AGENT, session_key, made, WRONG, session_key[:-2] + "xx", "tt-session-" + WRONG):
        for header in ("Authorization", "x-api-key"):
            shown_in.append({header: f"Bearer {key}" if header == "Authorization" else key})
            shown_in.append({header: f"Bearer {key}" if header == "Authorization" else key, "X-Session-Id": "not/mine"})
        shown_in.append({"Authorization": f"Basic {key}"})
        shown_in.append({"Authorization": key})
    for headers in shown_in:
        ask("POST", "/v1/chat/completions", json=body, headers=headers)
        ask("POST", "/v1/chat/completions", json={**body, "temperature": "hot"}, headers=headers)
        ask("POST", "/v1/messages", content=b"{", headers=headers)
        ask("POST", "/sessions/foreign/v1/responses", json={"model": "nobody's", "input": "x"}, headers=headers)
        ask("GET", "/sessions/nobody/samples", headers=headers)
        ask("GET", f"/v1/models?api_key={QUERY}", headers=headers)
    for url in (
        f"vllm=http://user:{URL_PASSWORD}@127.0.0.1:1",
        f"vllm=http://127.0.0.1:1/?key={QUERY}",
        f"sglang=http://:{URL_PASSWORD}@127.0.0.1:1/v1?token={QUERY}#{QUERY}",
    ):
        ask("POST", "/admin/engines", json={"name": "e", "engine": url, "api_key": ENGINE_KEY})
    ask("POST", "/admin/engines", json={"name": "e", "engine": "vllm=http://127.0.0.1:1", "api_key": [ENGINE_KEY]})
    for path in (
        "/admin/engines",
        "/admin/keys",
        "/openapi.json",
        "/ready",
        "/health",
        "/sessions",
        "/samples?format=json",
    ):
        ask("GET", path)
    for session in proxy.tape.sessions():
        ask("GET", f"/sessions/{session.id}/turns")
    held = b"".join(path.read_bytes() for path in directory.glob("tape.db*")).decode("latin-1")
    logged = "\n".join(
        (record.getMessage() + str(record.exc_info or "")) for record in caplog.records if "httpx" not in record.name
        and "httpcore" not in record.name  # this test's own client, which logs the addresses that it asks
    )  # fmt: skip
    for secret in (*SECRETS, session_key, made):
        for place, text in (("an answer", "\n".join(told)), ("the tape", held), ("the log", logged)):
            assert secret not in text, f"{secret} is in {place}: {around(text, secret)}"


def around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[max(0, at - 200) : at + 100]


def test_settings_tell_no_secret() -> None:
    environ = {
        "TICKERTAPE_ADMIN_KEY": ADMIN, "TICKERTAPE_TRAINER_KEY": TRAINER, "TICKERTAPE_AGENT_KEY": AGENT,
        "TICKERTAPE_SESSION_KEY_SECRET": SIGNING, "TICKERTAPE_ENGINE_API_KEY": ENGINE_KEY,
        "TICKERTAPE_DB": f"postgresql://me:{DB_PASSWORD}@127.0.0.1:1/tape",
        "TICKERTAPE_ENGINES": f"vllm=http://user:{URL_PASSWORD}@127.0.0.1:1",
    }  # fmt: skip
    loaded = load({}, environ=environ)
    told = shown(loaded) + repr(loaded.settings) + json.dumps(loaded.settings.model_dump(mode="json"))
    for secret in (ADMIN, TRAINER, AGENT, SIGNING, ENGINE_KEY):
        assert secret not in told
    for secret in (DB_PASSWORD, URL_PASSWORD):
        assert secret not in shown(loaded)


def test_short_signing_secret_is_refused_without_telling_it() -> None:
    with pytest.raises(SettingsError) as refused:
        load({}, environ={"TICKERTAPE_SESSION_KEY_SECRET": "too-short-jjjj"})
    assert "session_key_secret" in str(refused.value)
    assert "jjjj" not in str(refused.value)


def test_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    with pytest.raises(StoreError) as failed:
        Store(f"postgresql://me:{DB_PASSWORD}@127.0.0.1:1/tape?connect_timeout=2")
    assert DB_PASSWORD not in str(failed.value)


@pytest.mark.parametrize(
    "url",
    [f"nonsense://user:{URL_PASSWORD}@h", f"http://user:{URL_PASSWORD}@h", f"http://h/?k={URL_PASSWORD}",
     f"http://h#{URL_PASSWORD}", f"http://a@b:{URL_PASSWORD}@h/x"],
)  # fmt: skip
def test_engines_address_is_refused_without_its_password(url: str) -> None:
    settings = Settings(engines=(f"vllm={url}",), model="m")
    with pytest.raises(SettingsError) as refused:
        make_parts(settings, say=lambda _: None)
    assert URL_PASSWORD not in str(refused.value)
