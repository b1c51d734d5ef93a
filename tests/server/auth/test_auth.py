"""Keys: made, shown once, expired, revoked; each kind reaches what is its own."""

import asyncio
import base64
import re
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import tickertape
from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, scripted, until
from tickertape.clients import TrajectoryClient, TrajectoryError
from tickertape.server.auth import keyring as keyring_module
from tickertape.server.auth.access import ANYBODY, Role
from tickertape.server.auth.keyring import FRESH, Keyring, make_key
from tickertape.server.auth.keys import ConfiguredKey, digest_of, hash_of, new_key
from tickertape.server.auth.session_keys import KEY_FORM, SessionKeys
from tickertape.server.errors import Unauthenticated
from tickertape.server.serving.exposure import check_exposure, is_loopback
from tickertape.server.settings import AuthMode, Settings, SettingsError
from tickertape.server.settings.sources import load
from tickertape.server.store import keys as rows
from tickertape.server.store.store import Store, StoreError

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
ADMIN, AGENT, AGENT_2 = (f"tt-{name}-{'0' * 64}" for name in ("admin", "agent", "agent2"))
MODEL = "scripted"


def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda _ids, _sampling: [9707, 151645])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("tape")
    with scripted(engine(), directory, api_key=ADMIN, admin_key=ADMIN, agent_key=AGENT) as proxy:
        yield proxy


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def make(proxy: Proxy, role: str, **fields: Any) -> dict[str, Any]:
    answer = proxy.http.post("/admin/keys", json={"role": role, "name": "a test's", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def chat(proxy: Proxy, key: str, path: str = "/v1", **headers: str) -> httpx.Response:
    body = {"model": proxy.model, "messages": HELLO}
    return proxy.http.post(f"{path}/chat/completions", json=body, headers=bearer(key) | headers)


# Keys on tape.


@pytest.mark.parametrize("role", list(Role))
def test_key_is_told_once_and_kept_as_a_hash(proxy: Proxy, role: Role) -> None:
    made = make(proxy, role)
    assert re.fullmatch(rf"tt-{role}-[0-9a-f]{{64}}", made["key"])
    listed = next(key for key in proxy.http.get("/admin/keys").json()["keys"] if key["id"] == made["id"])
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert (listed["role"], listed["name"], listed["revoked_at"]) == (role, "a test's", None)
    assert proxy.http.get("/v1/models", headers=bearer(made["key"])).status_code == 200


def test_no_tape_holds_a_key(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = start_proxy(engine(), api_key=ADMIN, admin_key=ADMIN)
    made = make(proxy, "trainer")["key"]
    session_key = proxy.http.post("/sessions", json={"key_expires_in": 60}).json()["agent_key"]["key"]
    assert chat(proxy, session_key).status_code == 200
    held = b"".join(path.read_bytes() for path in tmp_path.glob("tape.db*"))
    assert digest_of(made).encode() in held
    for key in (made, ADMIN, session_key):
        assert key.encode() not in held
        assert key.rpartition("-")[2].encode() not in held


def test_revoked_key_ends_at_once(proxy: Proxy) -> None:
    made = make(proxy, "trainer")
    assert proxy.http.get("/sessions", headers=bearer(made["key"])).status_code == 200
    assert proxy.http.delete(f"/admin/keys/{made['id']}").json()["revoked_at"] is not None
    refused = proxy.http.get("/sessions", headers=bearer(made["key"]))
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert refused.json()["error"]["message"] == f"the API key {made['id']} was revoked"
    assert proxy.http.delete("/admin/keys/nobody").status_code == 404


def test_key_ends_when_it_expires(proxy: Proxy) -> None:
    made = make(proxy, "trainer", expires_in=0.2)
    until(lambda: proxy.http.get("/sessions", headers=bearer(made["key"])).status_code == 401)
    assert time.time() >= made["expires_at"]


@pytest.fixture
def quickly_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in memory are read again after moments."""
    monkeypatch.setattr(keyring_module, "FRESH", 0.1)


@pytest.mark.usefixtures("quickly_stale")
def test_keys_of_another_replica_count_within_seconds(postgres_url: str, start_proxy: StartProxy) -> None:
    """Two servers on one tape: what one makes and revokes, the other knows."""
    here, there = (start_proxy(engine(), db=postgres_url, api_key=ADMIN, admin_key=ADMIN) for _ in range(2))
    made = make(here, "trainer")
    assert there.http.get("/sessions", headers=bearer("tt-trainer-nobody's")).status_code == 401  # it has read the tape
    until(lambda: there.http.get("/sessions", headers=bearer(made["key"])).status_code == 200, FRESH + 1)
    session_key = here.http.post("/sessions", json={"key_expires_in": 60}).json()["agent_key"]["key"]
    until(lambda: chat(there, session_key).status_code == 200, FRESH + 1)
    here.http.delete(f"/admin/keys/{made['id']}")
    until(lambda: there.http.get("/sessions", headers=bearer(made["key"])).status_code == 401, FRESH + 1)


@pytest.mark.usefixtures("quickly_stale")
def test_first_key_turns_authentication_on_and_its_revocation_not_off(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = start_proxy(engine())
    assert proxy.http.get("/sessions").status_code == 200
    made = tickertape("keys", "create", "--role", "admin", "--name", "me", "--db", str(tmp_path / "tape.db"))
    key = made.stdout.strip()
    until(lambda: proxy.http.get("/sessions").status_code == 401, FRESH + 1)
    listed = proxy.http.get("/admin/keys", headers=bearer(key)).json()["keys"]
    assert [(each["role"], each["name"]) for each in listed] == [("admin", "me")]
    tickertape("keys", "revoke", listed[0]["id"], "--db", str(tmp_path / "tape.db"))
    until(lambda: proxy.http.get("/sessions", headers=bearer(key)).status_code == 401, FRESH + 1)
    assert proxy.http.get("/sessions").status_code == 401


# What each reaches.


def test_agents_key_has_sessions_of_its_own(proxy: Proxy) -> None:
    other = make(proxy, "agent")
    first = chat(proxy, AGENT)
    session = first.headers["X-Session-Id"]
    assert session.startswith(f"cfg{digest_of(AGENT)[:9]}.")
    assert chat(proxy, AGENT, **{"X-Session-Id": session}).status_code == 200
    named = session.partition(".")[0] + ".of-my-choice"
    assert chat(proxy, AGENT, **{"X-Session-Id": named}).headers["X-Session-Id"] == named
    for refused in (
        chat(proxy, other["key"], **{"X-Session-Id": session}),
        chat(proxy, other["key"], f"/sessions/{session}/v1"),
        chat(proxy, AGENT, **{"X-Session-Id": "of-my-choice"}),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "session_not_yours")


def test_agents_key_reads_and_follows_answers_of_its_own(proxy: Proxy) -> None:
    other = make(proxy, "agent")["key"]
    body = {"model": proxy.model, "input": "Hello"}
    mine = proxy.http.post("/v1/responses", json=body, headers=bearer(AGENT)).json()["id"]
    session_key = proxy.http.post("/sessions", json={"key_expires_in": 60}).json()["agent_key"]["key"]
    for key, status in ((AGENT, 200), (other, 404), (session_key, 404), (ADMIN, 200)):
        assert proxy.http.get(f"/v1/responses/{mine}", headers=bearer(key)).status_code == status
        assert proxy.http.get(f"/v1/responses/{mine}/input_items", headers=bearer(key)).status_code == status
        follow = proxy.http.post("/v1/responses", json={**body, "previous_response_id": mine}, headers=bearer(key))
        assert follow.status_code == (200 if status == 200 else 404), follow.text
    assert proxy.http.delete(f"/v1/responses/{mine}", headers=bearer(other)).status_code == 404
    assert proxy.http.delete(f"/v1/responses/{mine}", headers=bearer(AGENT)).status_code == 200


def test_conversations_are_recognised_within_one_key(proxy: Proxy) -> None:
    keys = [make(proxy, "agent")["key"] for _ in range(2)]
    first = [chat(proxy, key) for key in keys]
    sessions = [answer.headers["X-Session-Id"] for answer in first]
    assert sessions[0] != sessions[1]
    said = first[0].json()["choices"][0]["message"]
    body = {"model": proxy.model, "messages": [*HELLO, {"role": "assistant", "content": said["content"]}, *HELLO]}
    for key, session in zip(keys, sessions, strict=True):
        again = proxy.http.post("/v1/chat/completions", json=body, headers=bearer(key))
        assert again.headers["X-Session-Id"] == session


def test_session_key_is_all_that_an_agent_needs(proxy: Proxy) -> None:
    """Only base URL and key are set: the SDKs' calls are in the key's session."""
    created = proxy.http.post("/sessions", json={"key_expires_in": 60}).json()
    key = created["agent_key"]["key"]
    assert created["agent_key"]["session_id"] == created["id"]
    assert re.fullmatch(r"tt-session-[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}", key)
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0) as client:
        client.chat.completions.create(model=proxy.model, messages=HELLO)
        assert [model.id for model in client.models.list()] == [proxy.model]
    with anthropic.Anthropic(base_url=proxy.url, api_key=key, max_retries=0) as claude:
        claude.messages.create(model=proxy.model, max_tokens=5, messages=HELLO)
    assert [turn.dialect for turn in proxy.tape.turns(created["id"])] == ["chat", "messages"]


def test_session_key_reaches_no_other_session(proxy: Proxy) -> None:
    mine, other = (proxy.http.post("/sessions", json={"key_expires_in": 60}).json() for _ in range(2))
    key = mine["agent_key"]["key"]
    for refused in (
        chat(proxy, key, f"/sessions/{other['id']}/v1"),
        chat(proxy, key, **{"X-Session-Id": other["id"]}),
        chat(proxy, key, f"/sessions/{mine['id']}/v1", **{"X-Session-Id": other["id"]}),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "session_not_yours")
    assert chat(proxy, key, f"/sessions/{mine['id']}/v1", **{"X-Session-Id": mine["id"]}).status_code == 200
    assert proxy.http.get(f"/sessions/{mine['id']}", headers=bearer(key)).status_code == 403
    assert not proxy.tape.turns(other["id"])


def test_session_key_can_be_made_later_and_not_for_what_is_not_open(proxy: Proxy) -> None:
    session = proxy.tape.create_session().id
    made = proxy.http.post(f"/sessions/{session}/key", json={"expires_in": 60})
    assert (made.status_code, made.json()["session_id"]) == (201, session)
    assert made.json()["expires_at"] == pytest.approx(time.time() + 60, abs=3)
    assert chat(proxy, made.json()["key"]).status_code == 200
    proxy.tape.finish(session)
    assert proxy.http.post(f"/sessions/{session}/key").json()["error"]["code"] == "session_closed"
    late = {"model": proxy.model, "messages": [{"role": "user", "content": "Late"}]}
    refused = proxy.http.post("/v1/chat/completions", json=late, headers=bearer(made.json()["key"]))
    assert refused.json()["error"]["code"] == "session_closed"
    assert proxy.http.post("/sessions/nobody/key").status_code == 404
    assert proxy.http.post(f"/sessions/{session}/key", json={"expires_in": 31 * 86400}).status_code == 400


def test_refused_session_key_is_told_why(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = start_proxy(engine(), api_key=ADMIN, admin_key=ADMIN)
    session = proxy.tape.create_session().id
    short = proxy.http.post(f"/sessions/{session}/key", json={"expires_in": 0.01}).json()["key"]
    good = proxy.http.post(f"/sessions/{session}/key").json()["key"]

    def why(key: str) -> str:
        error = chat(proxy, key).json()["error"]
        assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
        assert key not in error["message"]
        return str(error["message"])

    assert "expired" in why(short)
    assert "signature is wrong" in why(good[:-3] + "AAA")
    assert "cannot be read" in why("tt-session-nonsense") or "signature" in why("tt-session-nonsense")
    assert chat(proxy, good).status_code == 200
    assert tickertape("keys", "rotate-secret", "--db", str(tmp_path / "tape.db")).exit_code == 0
    until(lambda: chat(proxy, good).status_code == 401, FRESH + 1)
    assert "rotated" in why(good)
    assert chat(proxy, proxy.http.post(f"/sessions/{session}/key").json()["key"]).status_code == 200


def bomb() -> str:
    """A session key that nobody signed: 60 kB of it are 40 MB of JSON."""
    inflated = b"[" * (40 * 2**20)
    packed = base64.urlsafe_b64encode(zlib.compress(inflated, 9)).rstrip(b"=").decode()
    assert 20_000 < len(packed) < 60_000
    return packed


@pytest.mark.parametrize("start", ["tt-session-.", "tt-session-0123abcd-.", "tt-session-%s-."])
def test_nothing_of_a_key_is_decoded_before_its_signature_is_verified(proxy: Proxy, start: str) -> None:
    made = proxy.http.post("/sessions", json={"key_expires_in": 60}).json()["agent_key"]["key"]
    generation = made.removeprefix("tt-session-").partition("-")[0]
    forged = start.replace("%s", generation) + bomb() + made[made.rindex(".") :]
    began = time.process_time()  # the server runs in this process
    assert chat(proxy, forged).status_code == 401
    assert proxy.http.get("/v1/models", headers={"x-api-key": forged, "Authorization": ""}).status_code == 401
    assert time.process_time() - began < 0.2


@given(st.text(max_size=300).map(lambda text: "tt-session-" + text) | st.from_regex(KEY_FORM, fullmatch=True))
def test_a_key_that_was_not_made_here_is_refused_whatever_it_is(key: str) -> None:
    with pytest.raises(Unauthenticated):
        SessionKeys(b"secret" * 8).session_of(key)


def test_refusals_are_in_the_protocol_of_the_call(proxy: Proxy) -> None:
    with (
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.chat.completions.create(model=proxy.model, messages=HELLO)
    assert refused.value.code == "invalid_api_key"
    with (
        anthropic.Anthropic(base_url=proxy.url, api_key="sk-wrong", max_retries=0) as claude,
        pytest.raises(anthropic.AuthenticationError) as told,
    ):
        claude.messages.create(model=proxy.model, max_tokens=5, messages=HELLO)
    assert isinstance(told.value.body, dict)
    assert told.value.body["error"]["type"] == "authentication_error"
    forbidden = proxy.http.post("/sessions/foreign/v1/messages", headers={"x-api-key": AGENT, "Authorization": ""})
    assert (forbidden.status_code, forbidden.json()["error"]["type"]) == (403, "permission_error")


def test_session_key_names_its_session_without_authentication_too(start_proxy: StartProxy) -> None:
    """The same training script runs with keys and without."""
    proxy = start_proxy(engine(), auth=AuthMode.OFF)
    created = proxy.http.post("/sessions", json={"key_expires_in": 60}).json()
    assert chat(proxy, created["agent_key"]["key"]).headers["X-Session-Id"] == created["id"]
    assert chat(proxy, "session-by-name").headers["X-Session-Id"] == "by-name"
    assert chat(proxy, "tt-session-forged.x").status_code == 401


# The keyring.


async def test_no_call_reads_the_tape_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "tape.db")
    keyring = Keyring(store)
    made = await keyring.make(Role.TRAINER, "t", None)
    reads = 0
    read = store.read

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*args, **kwargs)

    monkeypatch.setattr(store, "read", counted)
    for key in (made.key, *(new_key(Role.ADMIN) for _ in range(200))):
        try:
            assert (await keyring.identify(key)).key_id == made.id
        except Unauthenticated:
            assert key != made.key
    assert reads == 1
    store.close()


async def test_while_the_tape_is_gone_what_was_read_counts_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "tape.db")
    keyring = Keyring(store, configured=[ConfiguredKey(Role.ADMIN, hash_of(ADMIN))])
    made = await keyring.make(Role.TRAINER, "t", None)
    assert (await keyring.identify(made.key)).role is Role.TRAINER

    async def gone(*args: Any, **kwargs: Any) -> Any:
        raise StoreError("gone")

    monkeypatch.setattr(store, "read", gone)
    monkeypatch.setattr(keyring_module, "FRESH", 0.01)
    keyring._changed()
    assert (await keyring.identify(made.key)).role is Role.TRAINER
    monkeypatch.setattr(keyring_module, "STALE", 0.0)
    await asyncio.sleep(0.03)
    with pytest.raises(StoreError):
        await keyring.identify(made.key)
    assert (await keyring.identify(ADMIN)).role is Role.ADMIN
    store.close()


async def test_key_that_is_revoked_while_keys_are_read_is_not_known_longer(tmp_path: Path) -> None:
    store = Store(tmp_path / "tape.db")
    keyring = Keyring(store)
    for _ in range(20):
        made = await keyring.make(Role.ADMIN, "a", None)
        asking = [asyncio.ensure_future(keyring.identify(made.key)) for _ in range(5)]
        await keyring.revoke(made.id)
        await asyncio.gather(*asking, return_exceptions=True)
        with pytest.raises(Unauthenticated, match="revoked"):
            await keyring.identify(made.key)
    store.close()


async def test_modes(tmp_path: Path) -> None:
    store = Store(tmp_path / "tape.db")
    assert await Keyring(store, AuthMode.AUTO).identify("anything") is ANYBODY
    assert await Keyring(store, AuthMode.OFF).identify(None) is ANYBODY
    with pytest.raises(Unauthenticated):
        await Keyring(store, AuthMode.REQUIRED).identify(None)
    configured = [ConfiguredKey(Role.AGENT, hash_of(AGENT))]
    with pytest.raises(Unauthenticated):
        await Keyring(store, AuthMode.AUTO, configured).identify(None)
    assert (await Keyring(store, AuthMode.AUTO, configured).identify(AGENT)).role is Role.AGENT
    store.close()


# Settings.


@pytest.mark.parametrize("key", ["short", "with space in between it", "sha256:abc", "x" * 30 + "\n", "ключ" * 10])
def test_key_that_cannot_be_one_is_refused_without_telling_it(key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({}, environ={"TICKERTAPE_ADMIN_KEY": key})
    assert "admin_key" in str(refused.value)
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True), ("0.0.0.0", False), ("::", False),
     ("", False), ("192.0.2.7", False), ("no-such-host.invalid", False)],
)  # fmt: skip
def test_loopback(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


async def test_public_address_needs_a_key_or_a_word(tmp_path: Path) -> None:
    store = Store(tmp_path / "tape.db")

    async def refused(**given: Any) -> str:
        settings = Settings(host="0.0.0.0", **given)
        try:
            await check_exposure(settings, Keyring(store, settings.auth))
        except SettingsError as error:
            return str(error)
        return ""

    assert "there is no API key yet" in await refused()
    assert "tickertape keys create" in await refused()
    assert "auth is off" in await refused(auth=AuthMode.OFF)
    assert not await refused(auth=AuthMode.OFF, insecure_public=True)
    assert not await refused(auth=AuthMode.REQUIRED)
    made = make_key(Role.ADMIN, "first", None)
    await store.write(rows.add_key, made.record, made.digest)
    assert not await refused()
    assert "auth is off" in await refused(auth=AuthMode.OFF)
    store.close()


# The command line.


def test_keys_are_made_listed_and_revoked_on_the_tape_itself(tmp_path: Path) -> None:
    db = ("--db", str(tmp_path / "tape.db"))
    made = tickertape("keys", "create", "--role", "trainer", "--name", "nightly", "--days", "30", *db)
    assert re.fullmatch(r"tt-trainer-[0-9a-f]{64}\n", made.stdout)  # alone, to be piped
    (key_id,) = re.findall(r"trainer key ([0-9a-f]{12}) \(nightly\), until 2", made.stderr)
    listed = tickertape("keys", "list", *db)
    assert re.search(rf"{key_id} +trainer +nightly .* good, until", listed.stdout)
    assert made.stdout.strip() not in listed.stdout
    assert tickertape("keys", "revoke", key_id, *db).exit_code == 0
    assert "revoked" in tickertape("keys", "list", *db).stdout
    unknown = tickertape("keys", "revoke", "nobody", *db)
    assert (unknown.exit_code, unknown.stderr) == (1, "tickertape: there is no key 'nobody'\n")


def test_client_takes_its_key_from_the_environment(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with TrajectoryClient(proxy.url) as nobody, pytest.raises(TrajectoryError, match="asks for an API key"):
        nobody.create_session()
    monkeypatch.setenv("TICKERTAPE_API_KEY", ADMIN)
    with TrajectoryClient(proxy.url) as client:
        assert client.create_session().state == "open"


def test_trainer_opens_a_session_and_gives_its_agent_the_key(proxy: Proxy) -> None:
    trainer = make(proxy, "trainer")["key"]
    with TrajectoryClient(proxy.url, api_key=trainer) as client, client.session(key_expires_in=60) as rollout:
        with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=rollout.agent_key, max_retries=0) as agent:
            agent.chat.completions.create(model=proxy.model, messages=HELLO)
        with openai.OpenAI(base_url=rollout.base_url, api_key=client.agent_key(rollout.id), max_retries=0) as agent:
            agent.chat.completions.create(model=proxy.model, messages=[{"role": "user", "content": "Again"}])
        assert len(rollout.turns()) == 2
        rollout.reward(1.0)


def test_export_shows_a_key(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TICKERTAPE_API_KEY", raising=False)
    refused = tickertape("export", proxy.url, str(tmp_path / "out.ndjson"))
    assert (refused.exit_code, "asks for an API key" in refused.stderr) == (1, True)
    done = tickertape("export", proxy.url, str(tmp_path / "out.ndjson"), "--api-key", ADMIN)
    assert done.exit_code == 0, done.stderr


async def test_a_tape_that_is_slow_to_read_is_read_once_for_a_call(tmp_path: Path) -> None:
    store = Store(tmp_path / "tape.db")
    keyring = Keyring(store, AuthMode.AUTO)
    read, reads = store.read, 0

    async def slowly(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        await asyncio.sleep(FRESH + 0.1)
        return await read(*args)

    store.read = slowly  # type: ignore[assignment]
    assert await asyncio.wait_for(keyring.identify(None), 3 * FRESH) is ANYBODY
    assert reads == 1
    store.close()


async def test_a_reading_that_was_too_slow_and_has_just_ended_is_not_waited_for_again(tmp_path: Path) -> None:
    """The server stood still for good: a call that came between a reading's end and its callback took no turns."""
    store = Store(tmp_path / "tape.db")
    keyring = Keyring(store)
    ended = asyncio.ensure_future(asyncio.sleep(0))
    await ended
    keyring._reading = ended
    signal.alarm(5)  # nothing of asyncio's would end it
    try:
        assert await keyring.identify(None) is ANYBODY
    finally:
        signal.alarm(0)
    store.close()
