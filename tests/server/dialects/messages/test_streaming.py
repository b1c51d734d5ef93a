"""Anthropic's events: STREAM, event by event, and what goes wrong on the way."""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.calls.test_streaming import ANSWERS, CALL, encode
from tests.server.conftest import Proxy, StartProxy, scripted
from tests.server.dialects.messages.reading_along import LOOK_UP, USER, ask, post, read_along, without_ids
from tests.server.invariants import check_all
from tickertape.clients.engines.engine import Chunk, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineRefused, EngineUnavailable
from tickertape.clients.engines.stopping import StopWatch, cut

THOUGHT = "<think>\nHm, 🦫?\n</think>\n\nÜber Biber.<|im_end|>"
INTERLEAVED = f"<think>\nFirst\n</think>\n\nA\n{CALL}\nB\n{CALL}<|im_end|>"
BROKEN = '<tool_call>\n{"name": "look_up", "arguments": {"key": oops}}\n</tool_call><|im_end|>'


def types(message: dict[str, Any]) -> list[str]:
    return [block["type"] for block in message["content"]]


class StoppingEngine(ScriptedEngine):
    """A fake engine that knows stop strings too."""

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        from tests.server.conftest import qwen3_tokenizer

        watch = StopWatch(sampling.stop, ())
        async for chunk in super().generate(prompt_ids, sampling, request_id=request_id):
            stopped = watch.first(chunk.token_ids, qwen3_tokenizer().token_bytes) if sampling.stop else None
            yield chunk if stopped is None else cut(chunk, *stopped)
            if stopped is not None:
                return


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, StoppingEngine]]:
    """A proxy whose engine's ``script`` each test sets."""
    engine = StoppingEngine(lambda _ids, _sampling: [])
    with scripted(engine, tmp_path_factory.mktemp("tape")) as proxy:
        yield proxy, engine


@pytest.mark.parametrize("answer", [*ANSWERS, INTERLEAVED, BROKEN])
@pytest.mark.parametrize(
    "fields", [{}, {"stop_sequences": ["STOP", "a STOQ"]}, {"max_tokens": 3}], ids=["", "stop", "cut"]
)
def test_stream_adds_up_to_the_whole_message(
    stopping: tuple[Proxy, StoppingEngine], session: str, answer: str, fields: dict[str, Any]
) -> None:
    proxy, engine = stopping
    engine.script = lambda _ids, _sampling: encode(answer)
    heard = read_along(proxy, session, USER, tools=[LOOK_UP], **fields)
    whole = ask(proxy, f"{session}-whole", USER, tools=[LOOK_UP], **fields)
    assert without_ids(heard.message()) == without_ids(whole)
    streamed, answered = (proxy.tape.turns(name)[0] for name in (session, f"{session}-whole"))
    assert streamed.completion.tolist() == answered.completion.tolist()
    assert streamed.response is not None
    texts = [block["text"] for block in heard.message()["content"] if block["type"] == "text"]
    assert (streamed.response["content"] or "") == "".join(texts)


def test_blocks_stand_in_the_order_in_which_they_were_sampled(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(INTERLEAVED)))
    heard = read_along(proxy, session, USER, tools=[LOOK_UP])
    assert types(heard.message()) == ["thinking", "text", "tool_use", "text", "tool_use"]
    assert heard.message()["content"][2]["input"] == {"key": "ünï 🦫", "n": [1, 2]}
    assert heard.message()["stop_reason"] == "tool_use"
    assert heard.deltas("signature_delta") == [heard.headers["x-turn-id"]]


@pytest.mark.parametrize(("eager", "pieces"), [(False, 1), (True, 5)])
def test_input_is_told_whole_or_as_it_comes(start_proxy: StartProxy, session: str, eager: bool, pieces: int) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(f"{CALL}<|im_end|>"), delay=0.01))
    heard = read_along(proxy, session, USER, tools=[{**LOOK_UP, "eager_input_streaming": eager}])
    told = heard.deltas("input_json_delta")
    assert "".join(told) == '{"key": "ünï 🦫", "n": [1, 2]}'
    assert len(told) == 1 if pieces == 1 else len(told) >= pieces


def test_input_that_is_no_object_is_wrapped_and_read_back_as_it_was(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode(BROKEN)))
    message = read_along(proxy, session, USER, tools=[LOOK_UP]).message()
    (block,) = message["content"]
    assert block["input"] == {"INVALID_JSON": '{"key": oops}'}
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": "no", "is_error": True}
    asked = [*USER, {"role": "assistant", "content": message["content"]}, {"role": "user", "content": [result]}]
    ask(proxy, session, asked, tools=[LOOK_UP])
    first, second = check_all(proxy.tape, session, engine.calls)
    assert (second.parent_id, second.fork_reason) == (first.id, None)
    ask(proxy, f"{session}-again", asked, tools=[LOOK_UP])  # without the tape of the first turn
    (alone,) = proxy.tape.turns(f"{session}-again")
    assert alone.messages[1]["tool_calls"][0]["function"]["arguments"] == '{"key": oops}'
    assert alone.messages[2] == {"role": "tool", "content": "Error: no", "tool_call_id": block["id"]}


def test_thoughts_can_be_left_out_and_the_turn_is_found_again(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode(THOUGHT)))
    config = {"type": "adaptive", "display": "omitted"}
    message = read_along(proxy, session, USER, thinking=config).message()
    whole = ask(proxy, f"{session}-whole", USER, thinking=config)
    assert without_ids(message) == without_ids(whole)
    thought, text = message["content"]
    assert (thought["thinking"], text["text"]) == ("", "Über Biber.")
    asked = [*USER, {"role": "assistant", "content": message["content"]}, *USER]
    read_along(proxy, session, asked, thinking=config)
    first, second = proxy.tape.turns(session)
    assert second.parent_id == first.id
    assert first.response is not None
    assert first.response["reasoning_content"] == "Hm, 🦫?"
    assert len(engine.calls) == 3


def test_stop_sequence_is_named(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(StoppingEngine(lambda _ids, _sampling: encode("One STOP two")))
    message = read_along(proxy, session, USER, stop_sequences=["never", "STOP"]).message()
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "STOP")
    assert message["content"] == [{"type": "text", "text": "One "}]


def test_usage_is_told_and_counts_cached_tokens_apart(start_proxy: StartProxy, session: str) -> None:
    class Caching(ScriptedEngine):
        async def generate(
            self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
        ) -> AsyncGenerator[Chunk, None]:
            yield Chunk([], [], cached_tokens=5)
            async for chunk in super().generate(prompt_ids, sampling, request_id=request_id):
                yield chunk

    proxy = start_proxy(engine := Caching(lambda _ids, _sampling: encode("Hi<|im_end|>")))
    heard = read_along(proxy, session, USER)
    n = len(engine.calls[0].prompt_ids)
    assert heard.events[0]["message"]["usage"] == {"input_tokens": n, "output_tokens": 0}
    assert heard.message()["usage"] == {
        "input_tokens": n - 5,
        "output_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 5,
    }


def test_silence_is_broken_by_pings(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>"), delay=0.5), heartbeat=0.1)
    heard = read_along(proxy, session, USER)
    assert heard.pings > 5
    assert heard.message()["content"] == [{"type": "text", "text": "Hi"}]


def test_failure_midway_is_an_error_event(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(
        ScriptedEngine(lambda _ids, _sampling: [*encode("So far so good"), EngineUnavailable("it fell over")])
    )
    heard = read_along(proxy, session, USER)
    assert heard.error is not None
    assert heard.error["type"] == "api_error"
    assert heard.error["details"]["error_code"] == "engine_unavailable"
    assert "".join(heard.deltas("text_delta")) == "So far so good"


def test_failure_before_the_first_token_has_its_own_status(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [EngineRefused("no such thing", param="top_k")]))
    answer = post(proxy, session, USER, stream=True)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_retry_of_a_stream_gets_its_events_and_is_not_sampled_again(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode(INTERLEAVED)))
    first, again = (read_along(proxy, session, USER, tools=[LOOK_UP]) for _ in range(2))
    assert again.headers["x-tickertape-replayed"] == "true"
    assert again.message() == first.message()
    assert len(engine.calls) == 1


def test_thought_that_reaches_its_budget_ends_the_answer(start_proxy: StartProxy, session: str) -> None:
    long = "<think>\n" + " word" * 3000 + "\n</think>\n\nDone.<|im_end|>"
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode(long), max_context=8192))
    thinking = {"type": "enabled", "budget_tokens": 1024}
    heard = read_along(proxy, session, USER, thinking=thinking, max_tokens=4000)
    whole = ask(proxy, f"{session}-whole", USER, thinking=thinking, max_tokens=4000)
    assert without_ids(heard.message()) == without_ids(whole)
    assert heard.message()["stop_reason"] == "max_tokens"
    assert types(heard.message()) == ["thinking"]
    assert [call.closed for call in engine.calls] == [True, True]
    (turn,) = proxy.tape.turns(session)
    assert (len(turn.completion), turn.outcome) == (1024, "length")
    assert turn.request_fields["thinking"] == thinking


def test_thought_within_its_budget_changes_nothing(start_proxy: StartProxy, session: str) -> None:
    words = "<think>\n" + " word" * 900 + "\n</think>\n\n" + " said" * 900 + "<|im_end|>"
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(words)))
    whole = ask(proxy, session, USER, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=3000)
    assert types(whole) == ["thinking", "text"]
    assert whole["stop_reason"] == "end_turn"


def test_answer_that_was_cut_is_gone_on_with(start_proxy: StartProxy, session: str) -> None:
    said = encode("The answer is forty-two.<|im_end|>")
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: said))
    cut_off = ask(proxy, session, USER, max_tokens=2)
    engine.script = lambda _ids, _sampling: said[2:]
    asked = [*USER, {"role": "assistant", "content": cut_off["content"]}]
    rest = read_along(proxy, session, asked).message()
    assert cut_off["content"][0]["text"] + rest["content"][0]["text"] == "The answer is forty-two."
    check_all(proxy.tape, session, engine.calls)


def test_what_is_told_is_json_on_one_line(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("a\n\nb\r\u2028c<|im_end|>")))
    message = read_along(proxy, session, USER).message()
    assert message["content"] == [{"type": "text", "text": "a\n\nb\r\u2028c"}]
    assert json.loads(json.dumps(message)) == message
