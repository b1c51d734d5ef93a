"""What a web page could have a browser do to a server that asks for no key."""

from collections.abc import Iterator

import pytest
from starlette.datastructures import Headers

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tests.server.raw_http import raw, statuses
from tickertape.server.auth.browsers import Browsers
from tickertape.server.errors import Forbidden

ADMIN = f"tt-admin-{'0' * 64}"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    with scripted(engine, tmp_path_factory.mktemp("tape"), allowed_hosts=("box.lan",)) as proxy:
        yield proxy


def test_a_page_reads_nothing_by_a_name_of_its_own(proxy: Proxy) -> None:
    """DNS rebinding: the name is the page's, the address is the server's."""
    for path in ("/sessions", "/samples", "/metrics", "/admin/engines", "/v1/models", "/admin/keys"):
        answer = proxy.http.get(path, headers={"Host": "evil.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")
        assert "--allowed-host" in answer.json()["error"]["message"]
    added = {"url": "http://evil.example:1", "kind": "vllm", "name": "theirs"}
    assert proxy.http.post("/admin/engines", json=added, headers={"Host": "evil.example"}).status_code == 403
    assert proxy.http.delete("/admin/engines/engine", headers={"Host": "evil.example"}).status_code == 403
    assert [engine["name"] for engine in proxy.http.get("/admin/engines").json()["engines"]] == ["engine"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
    ],
)
def test_a_page_of_another_site_changes_nothing(proxy: Proxy, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/messages"),
        ("POST", "/sessions"),
        ("POST", "/samples/lease"),
        ("POST", "/retention"),
        ("POST", "/admin/policy/pause"),
        ("POST", "/admin/engines"),
        ("DELETE", "/admin/engines/engine"),
        ("PATCH", "/sessions/x"),
    ):
        answer = proxy.http.request(method, path, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["error"].get("code", "")) in (
            (403, "origin_not_allowed"),
            (403, ""),  # Anthropic's shape has no codes
        ), path
    assert list(proxy.tape.sessions()) == []


def test_agents_trainers_and_the_servers_own_pages_are_served(proxy: Proxy) -> None:
    own = proxy.url
    for headers in (
        {},
        {"Origin": own},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Host": "LOCALHOST:8700"},
        {"Host": "box.lan:8700"},
        {"Origin": "http://box.lan"},
        {"Host": "[::1]:8700"},
        {"Host": "10.1.2.3"},
    ):
        answer = proxy.http.post("/v1/chat/completions", json={"model": proxy.model, "messages": []}, headers=headers)
        assert answer.status_code == 400, answer.text  # for its messages
    assert proxy.http.get("/sessions", headers={"Origin": "http://evil.example"}).status_code == 200
    assert statuses(raw(proxy.url, b"GET /sessions HTTP/1.0\r\n\r\n")) == [200]
    assert proxy.http.get("/health", headers={"Host": "any.probe"}).status_code == 200


def test_a_key_is_enough(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No page has one."""
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    with scripted(engine, tmp_path_factory.mktemp("tape"), api_key=ADMIN, admin_key=ADMIN) as proxy:
        headers = {"Host": "proxy.cluster", "Origin": "http://elsewhere"}
        assert proxy.http.post("/sessions", json={}, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "a@localhost", "x:y:z", "[::1"]
)
def test_names_that_look_like_the_servers_own(host: str) -> None:
    with pytest.raises(Forbidden):
        Browsers(("127.0.0.1",)).check("GET", Headers({"host": host}))
    Browsers(any_host=True).check("GET", Headers({"host": host}))
