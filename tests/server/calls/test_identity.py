"""Where a session comes from, and where it is told."""

from collections.abc import Iterator

import openai
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    names = ("alias", "*")
    with scripted(engine, tmp_path_factory.mktemp("tape"), served_model_names=names) as proxy:
        yield proxy


def test_url_then_header_then_api_key_then_a_new_one(proxy: Proxy) -> None:
    def told(path: str, headers: dict[str, str]) -> str:
        body = {"model": proxy.model, "messages": HELLO}
        return proxy.http.post(path, json=body, headers=headers).headers["X-Session-Id"]

    everything = {"X-Session-Id": "by-header", "Authorization": "Bearer session-by-key"}
    assert told("/sessions/by-url/v1/chat/completions", everything) == "by-url"
    assert told("/v1/chat/completions", everything) == "by-header"
    assert told("/v1/chat/completions", {"Authorization": "Bearer session-by-key"}) == "by-key"
    assert told("/v1/chat/completions", {"x-api-key": "session-by-key"}) == "by-key"
    new = {told("/v1/chat/completions", {"Authorization": "Bearer sk-anything"}) for _ in range(3)}
    assert len(new) == 3
    assert {"by-url", "by-header", "by-key"} | new <= {session.id for session in proxy.tape.sessions()}


def test_agent_that_can_only_set_base_url_and_key(proxy: Proxy) -> None:
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="session-only-key", max_retries=0) as client:
        client.chat.completions.create(model=proxy.model, messages=HELLO)  # type: ignore[arg-type]
    assert proxy.tape.get_session("only-key").turns == 1


def test_any_model_name_can_be_accepted_and_is_recorded(proxy: Proxy, session: str) -> None:
    body = {"model": "gpt-4o", "messages": HELLO}
    answer = proxy.http.post(f"/sessions/{session}/v1/chat/completions", json=body).json()
    assert answer["model"] == "gpt-4o"
    assert proxy.tape.turns(session)[0].model == "gpt-4o"


def test_models_are_listed(proxy: Proxy) -> None:
    for path in ("/v1/models", "/sessions/s/v1/models"):
        assert [model["id"] for model in proxy.http.get(path).json()["data"]] == ["scripted", "alias"]


def test_every_sampling_field_reaches_the_engine(proxy: Proxy, session: str) -> None:
    fields = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "presence_penalty": 0.2, "frequency_penalty": 0.3,
        "repetition_penalty": 1.1, "seed": 7, "min_tokens": 0, "logit_bias": {"5": 1.5}, "max_completion_tokens": 9,
    }  # fmt: skip
    extra = {"stop": ["a", "b"], "stop_token_ids": [77], "user": "me", "metadata": {"k": "v"}}
    assert proxy.chat(session, HELLO, **fields, **extra).status_code == 200
    (turn,) = proxy.tape.turns(session)
    sent = turn.sampling
    fields["max_tokens"] = fields.pop("max_completion_tokens")
    assert {name: sent[name] for name in fields} == fields
    assert sent["stop"] == ["a", "b"]
    assert sent["stop_token_ids"] == [151645, 151643, 77]
    assert turn.request_fields == {"user": "me", "metadata": {"k": "v"}}
