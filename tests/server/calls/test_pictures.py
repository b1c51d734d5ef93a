"""A picture that a tool shows, or a user, ends no rollout of a model that reads text: NOTHING-SILENT."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, scripted
from tickertape.server.settings import Images

END = 151645
PNG = "data:image/png;base64,iVBORw0KGgo="
SOURCE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
USE = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
CALL = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}

#: Route, body, where the part is, and the index of the message that it is read in.
SHOWN: list[tuple[str, dict[str, Any], str, int]] = [
    (
        "chat/completions",
        {
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "tool_calls": [CALL]},
                {
                    "role": "tool",
                    "tool_call_id": "t",
                    "content": [{"type": "text", "text": "Seen:"}, {"type": "image_url", "image_url": {"url": PNG}}],
                },
            ]
        },
        "messages[2].content[1]",
        2,
    ),
    (
        "responses",
        {
            "input": [
                {"role": "user", "content": "Look."},
                {"type": "function_call", "call_id": "t", "name": "look", "arguments": "{}"},
                {
                    "type": "function_call_output",
                    "call_id": "t",
                    "output": [{"type": "input_text", "text": "Seen:"}, {"type": "input_image", "image_url": PNG}],
                },
            ]
        },
        "input[2].output[1]",
        2,
    ),
    (
        "messages",
        {
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [USE]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t",
                            "content": [{"type": "text", "text": "Seen:"}, {"type": "image", "source": SOURCE}],
                        }
                    ],
                },
            ],
        },
        "messages[2].content[0].content[1]",
        2,
    ),
]
IDS = ["chat", "responses", "messages"]


def playing() -> ScriptedEngine:
    return ScriptedEngine(lambda _ids, _sampling: [9707, END])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with scripted(playing(), tmp_path_factory.mktemp("tape")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with scripted(playing(), tmp_path_factory.mktemp("refusing"), images=Images.REFUSE) as proxy:
        yield proxy


@pytest.mark.parametrize(("route", "body", "place", "index"), SHOWN, ids=IDS)
def test_a_text_stands_in_the_place_of_a_picture_and_the_picture_is_named(
    proxy: Proxy, session: str, route: str, body: dict[str, Any], place: str, index: int
) -> None:
    answer = proxy.http.post(f"/sessions/{session}/v1/{route}", json={"model": proxy.model, **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Tickertape-Ignored"] == place
    (turn,) = proxy.tape.turns(session)
    assert turn.ignored_fields == [place]
    assert turn.messages[index]["content"] == "Seen:\n[image left out: you can read text only]"


@pytest.mark.parametrize(("route", "body", "place", "index"), SHOWN, ids=IDS)
def test_a_picture_is_refused_by_its_place_where_the_server_is_told_so(
    refusing: Proxy, session: str, route: str, body: dict[str, Any], place: str, index: int
) -> None:
    answer = refusing.http.post(f"/sessions/{session}/v1/{route}", json={"model": refusing.model, **body})
    assert answer.status_code == 400
    assert f"{place} is of type 'image'" in answer.json()["error"]["message"]
    assert index


def test_files_and_sounds_are_the_same_and_documents_of_plain_text_are_read(proxy: Proxy, session: str) -> None:
    parts = [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, {"type": "file", "file": {}}]
    assert proxy.chat(session, [{"role": "user", "content": parts}]).status_code == 200
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Beavers."}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}
    asked = {"model": proxy.model, "max_tokens": 9, "messages": [{"role": "user", "content": [plain, pdf]}]}
    assert proxy.http.post(f"/sessions/{session}/v1/messages", json=asked).status_code == 200
    sounds, documents = proxy.tape.turns(session)
    assert sounds.ignored_fields == ["messages[0].content[0]", "messages[0].content[1]"]
    assert documents.ignored_fields == ["messages[0].content[1]"]
    assert documents.messages[0]["content"] == "Beavers.\n[document left out: you can read text only]"
