"""What agents ask beside answers: models, counts, and where they went wrong."""

from collections.abc import Iterator

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    with scripted(engine, tmp_path_factory.mktemp("tape"), served_model_names=["org/name"]) as proxy:
        yield proxy


@pytest.mark.parametrize("base", ["", "/sessions/s"])
def test_one_model_is_told_by_its_name(proxy: Proxy, base: str) -> None:
    for name in (proxy.model, "org/name"):
        told = proxy.http.get(f"{base}/v1/models/{name}").json()
        assert (told["id"], told["object"]) == (name, "model")
    missing = proxy.http.get(f"{base}/v1/models/other")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_input_tokens_are_counted_as_the_turn_counts_them(proxy: Proxy, session: str) -> None:
    asked = {"model": proxy.model, "input": "Hello", "instructions": "Be brief."}
    counted = proxy.http.post(f"/sessions/{session}/v1/responses/input_tokens", json=asked).json()
    taken = proxy.http.post(f"/sessions/{session}/v1/responses", json=asked).json()
    assert counted == {"object": "response.input_tokens", "input_tokens": taken["usage"]["input_tokens"]}
    goes_on = {**asked, "previous_response_id": taken["id"]}
    refused = proxy.http.post(f"/sessions/{session}/v1/responses/input_tokens", json=goes_on)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")


def test_compaction_is_refused_in_words(proxy: Proxy) -> None:
    refused = proxy.http.post("/v1/responses/compact", json={"model": proxy.model, "input": "Hello"})
    assert refused.status_code == 400
    assert "not compacted here" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/sessions/s/responses", "/sessions/s/v1/responses"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/sessions/s//v1/messages", "/sessions/s/v1/messages"),
    ],
)
def test_a_wrong_base_url_is_told_what_would_be_right(proxy: Proxy, path: str, meant: str) -> None:
    told = proxy.http.post(path, json={"model": proxy.model, "messages": HELLO})
    assert told.status_code == 404
    assert f"did you mean {meant}?" in told.json()["error"]["message"]
    assert "base_url is http://HOST:PORT" in told.json()["error"]["message"]


def test_which_agent_calls_is_kept_on_the_turn(proxy: Proxy, session: str) -> None:
    told = {"x-claude-code-agent-id": "a1", "X-Parent-Session-Id": "p1", "x-openai-subagent": "review"}
    asked = {"model": proxy.model, "messages": HELLO}
    proxy.http.post(f"/sessions/{session}/v1/chat/completions", json=asked, headers={**told, "User-Agent": "x"})
    (turn,) = proxy.tape.turns(session)
    assert turn.request_fields["agent_headers"] == {name.lower(): value for name, value in told.items()}
