"""The page about first calls with keys says what a server says."""

from pathlib import Path

import httpx

from tests.engines import ScriptedEngine
from tests.server.conftest import StartProxy

PAGE = " ".join((Path(__file__).parents[3] / "docs" / "first-calls-with-keys.md").read_text(encoding="utf-8").split())
AGENT, TRAINER = "agent-" + "k" * 40, "trainer-" + "k" * 40
PREFIX = "cfg4d8597bd1."
CALL = "/v1/chat/completions"


def test_answers_are_those_of_the_page(start_proxy: StartProxy) -> None:
    proxy = start_proxy(
        ScriptedEngine(lambda _ids, _sampling: [9707, 151645]), agent_key=AGENT, trainer_key=TRAINER, api_key=TRAINER
    )

    def answer(path: str, key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        body = {"model": proxy.model, "messages": [{"role": "user", "content": "Hi"}]}
        return httpx.post(f"{proxy.url}{path}", json=body, headers=headers, timeout=60)

    assert answer(CALL, AGENT).headers["X-Session-Id"].startswith(PREFIX)
    assert answer(f"/sessions/{PREFIX}rollout-1{CALL}", AGENT).status_code == 200
    for path, key, status, shown in (
        (CALL, None, 401, "this server asks for an API key"),
        (CALL, "sk-proj-1", 401, "the API key is wrong (another service's, it seems; it was not passed on)"),
        (CALL, "session-rollout-1", 401, "the API key is wrong (session-ID names a session"),
        (
            f"/sessions/rollout-1{CALL}",
            AGENT,
            403,
            "an agent's key reaches sessions of its own, whose ids begin with 'cfg4d8597bd1.', not 'rollout-1': leave"
            " the id to the server, or ask the trainer for a key of that session",
        ),
        ("/sessions", AGENT, 403, "this needs the key of a trainer, and yours is an agent's"),
    ):
        refused = answer(path, key)
        assert refused.status_code == status
        assert refused.json()["error"]["message"].startswith(shown)
        assert shown in PAGE
