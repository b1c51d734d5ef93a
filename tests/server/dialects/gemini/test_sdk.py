"""Google's own SDK against the proxy, unmodified."""

from collections.abc import Callable
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from tests.agents.matrix.results import Ran, note
from tests.agents.playing import FINAL, N_CALLS, QUESTION, check_one_sample, playing, said, weather_answers
from tests.server.conftest import Proxy, StartProxy
from tests.server.invariants import check_all

Run = Callable[[genai.Client, str], str]


def client_of(proxy: Proxy, session: str) -> genai.Client:
    options = types.HttpOptions(base_url=f"{proxy.url}/sessions/{session}")
    return genai.Client(api_key="none", http_options=options)


def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


def config(**fields: Any) -> types.GenerateContentConfig:
    thinking = types.ThinkingConfig(include_thoughts=True)
    calls = types.AutomaticFunctionCallingConfig(maximum_remote_calls=N_CALLS + 2)
    return types.GenerateContentConfig(
        tools=[weather], system_instruction="Be brief.", thinking_config=thinking,
        automatic_function_calling=calls, **fields,
    )  # fmt: skip


def whole(client: genai.Client, model: str) -> str:
    answer = client.models.generate_content(model=model, contents=QUESTION, config=config())
    return answer.text or ""


def streamed(client: genai.Client, model: str) -> str:
    chunks = client.models.generate_content_stream(model=model, contents=QUESTION, config=config())
    return "".join(chunk.text or "" for chunk in chunks)


def chatting(client: genai.Client, model: str) -> str:
    """Calls are answered by hand, in a chat, whose history holds the pieces of a stream as they came."""
    by_hand = types.AutomaticFunctionCallingConfig(disable=True)
    asked = types.GenerateContentConfig(tools=[weather], automatic_function_calling=by_hand)
    chat = client.chats.create(model=model, config=asked)
    message: Any = QUESTION
    for _ in range(N_CALLS + 1):
        chunks = list(chat.send_message_stream(message))
        calls = [call for chunk in chunks for call in chunk.function_calls or ()]
        message = [
            types.Part.from_function_response(name=call.name or "", response={"result": "It rains."}) for call in calls
        ]
    return "".join(chunk.text or "" for chunk in chunks)


def test_sessions_of_20_tool_turns_are_one_sample_and_streams_say_the_same(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := playing(weather_answers()))
    told = []
    for run in (whole, streamed, chatting):
        name, n_before = f"{session}-{run.__name__}", len(engine.calls)
        with client_of(proxy, name) as client:
            assert run(client, proxy.model).endswith(FINAL)
        turns = check_one_sample(proxy, name, engine.calls[n_before:])
        # The SDK says what its functions return, which models are not shown.
        named = ["tools[0].functionDeclarations[0].response_json_schema"]
        assert [turn.ignored_fields for turn in turns] == [named] * (N_CALLS + 1)
        told.append(said(turns))
        way = "whole" if run is whole else "streamed"
        note(Ran("Google Gen AI SDK for Python", genai.__version__, "gemini", way, "run", len(turns), 1))
    assert told[0] == told[1] == told[2]


def test_thoughts_are_told_to_those_who_ask_and_counted(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(playing(["<think>\nHm.\n</think>\n\nHello."]))
    client = client_of(proxy, session)
    answers = []
    for includes in (True, False):
        thinking = types.ThinkingConfig(include_thoughts=includes)
        asked = types.GenerateContentConfig(thinking_config=thinking)
        answers.append(client.models.generate_content(model=proxy.model, contents=QUESTION, config=asked))
    parts = [[(part.text, part.thought) for part in answer.parts or ()] for answer in answers]
    assert parts == [[("Hm.", True), ("Hello.", None)], [("Hello.", None)]]
    usage = answers[0].usage_metadata
    (turn, _) = proxy.tape.turns(session)
    assert usage is not None
    assert usage.candidates_token_count is not None
    assert usage.thoughts_token_count
    assert usage.thoughts_token_count + usage.candidates_token_count == len(turn.completion)
    assert usage.total_token_count == len(turn.prompt_delta) + len(turn.completion)


@pytest.mark.parametrize("kind", ["json", "schema", "enum"])
def test_response_schemas_are_held_to(start_proxy: StartProxy, session: str, kind: str) -> None:
    proxy = start_proxy(playing(['{"town": "Köln"}']))
    schema = {"type": "OBJECT", "properties": {"town": {"type": "STRING", "nullable": True, "minLength": "1"}}}
    asked = {
        "json": types.GenerateContentConfig(response_mime_type="application/json"),
        "schema": types.GenerateContentConfig(response_mime_type="application/json", response_schema=schema),
        "enum": types.GenerateContentConfig(
            response_mime_type="text/x.enum", response_schema={"type": "STRING", "enum": ["a", "b"]}
        ),
    }[kind]
    asked.thinking_config = types.ThinkingConfig(thinking_budget=0)
    with client_of(proxy, session) as client:
        client.models.generate_content(model=proxy.model, contents=QUESTION, config=asked)
    (turn,) = proxy.tape.turns(session)
    assert turn.template_options == {"enable_thinking": False}
    plain = {"type": "object", "properties": {"town": {"type": ["string", "null"], "minLength": 1}}}
    wanted = {"json": ("json_object", None), "schema": ("json_schema", plain), "enum": ("choice", ["a", "b"])}[kind]
    assert (turn.sampling["structure"]["kind"], turn.sampling["structure"]["value"]) == wanted


def test_candidates_logprobs_and_counts(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := playing(["Hello."]))
    client = client_of(proxy, session)
    asked = types.GenerateContentConfig(candidate_count=2, response_logprobs=True, max_output_tokens=9)
    answer = client.models.generate_content(model=proxy.model, contents=QUESTION, config=asked)
    candidates = answer.candidates or []
    assert [candidate.index for candidate in candidates] == [0, 1]
    chosen = candidates[0].logprobs_result.chosen_candidates if candidates[0].logprobs_result else None
    assert [token.token_id for token in chosen or ()] == engine.calls[0].token_ids
    counted = client.models.count_tokens(model=proxy.model, contents=QUESTION)
    assert counted.total_tokens == len(engine.calls[0].prompt_ids)
    assert [model.name for model in client.models.list()] == [f"models/{proxy.model}"]
    assert client.models.get(model=proxy.model).input_token_limit == 200_000
    check_all(proxy.tape, session, engine.calls)


def test_errors_are_googles(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(playing(["Hello."]))
    client = client_of(proxy, session)
    with pytest.raises(errors.ClientError, match="is not served") as missing:
        client.models.generate_content(model="other", contents=QUESTION)
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    with pytest.raises(errors.ClientError, match=r"input token count \(\d+\) exceeds the maximum number of tokens"):
        client.models.generate_content(model=proxy.model, contents="word " * 250_000)
    refused = proxy.http.post(f"/sessions/{session}/v1beta/models/{proxy.model}:embedContent", json={})
    assert (refused.status_code, refused.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_a_session_is_named_by_the_api_key(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(playing(["Hello."]))
    client = genai.Client(api_key=f"session-{session}", http_options=types.HttpOptions(base_url=proxy.url))
    client.models.generate_content(model=proxy.model, contents=QUESTION)
    assert len(proxy.tape.turns(session)) == 1
