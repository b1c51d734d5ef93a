"""A model that is played for agents: it asks for one town's weather after the other, thinks, and speaks in the end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.engines import Call, ScriptedEngine
from tests.server.conftest import Proxy, qwen3_tokenizer
from tests.server.invariants import check_all
from tickertape.clients import Turn
from tickertape.clients.engines.engine import Feature, Sampling

N_CALLS = 20
QUESTION = "How is the weather?"
FINAL = "It rains everywhere. ☔"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


class GuidedPlayer(ScriptedEngine):
    """Says that it has guided decoding, and plays its script all the same."""

    features = ScriptedEngine.features | {Feature.STRUCTURE}


def call(name: str, **arguments: Any) -> str:
    """A tool call as Qwen3 writes it."""
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


def playing(answers: Sequence[str]) -> GuidedPlayer:
    """Plays the answers in turn, and from the first again when they are through; Qwen3's stop token ends each."""

    def script(_ids: list[int], _sampling: Sampling) -> list[int]:
        answer = answers[(len(engine.calls) - 1) % len(answers)]
        return qwen3_tokenizer().encode_like_model(answer + "<|im_end|>")

    engine = GuidedPlayer(script, max_context=200_000)
    return engine


def weather_answers() -> list[str]:
    """Thoughts, words before calls, several calls at once, and escapes in arguments are all among them."""
    thought = "<think>\nNext: “{town}”.\n</think>\n\n"
    towns = [f'Köln "{n}"' for n in range(N_CALLS)]
    answers = [thought.format(town=town) + call("weather", town=town) for town in towns]
    answers[3] = f"I look it up. 🦫\n{answers[3].split('</think>')[1].strip()}"
    answers[5] += "\n" + call("weather", town="Bonn")
    return [*answers, f"<think>\nAll known.\n</think>\n\n{FINAL}"]


def reading_notes(folder: Path) -> list[str]:
    """Writes notes into a folder. The answers read one after the other by `read_file`, and say what the last holds."""
    answers = []
    for number in range(N_CALLS):
        path = folder / f"notes{number}.txt"
        path.write_text(f"the answer is {number}\n")
        answers.append(
            f"<think>\nI read file {number}.\n</think>\n\nLet me see.\n{call('read_file', file_path=str(path))}"
        )
    return [*answers, f"<think>\nI know.\n</think>\n\nThe answer is {N_CALLS - 1}."]


def check_one_sample(proxy: Proxy, session: str, calls: list[Call], n_turns: int = N_CALLS + 1) -> list[Turn]:
    """PREFIX, VERBATIM, ONCE, and that the session's turns are one chain, all of whose tokens one sample trains."""
    turns = check_all(proxy.tape, session, calls)
    assert len(turns) == n_turns
    assert [turn.fork_reason for turn in turns] == [None] * n_turns
    assert [turn.parent_id for turn in turns] == [None, *(turn.id for turn in turns[:-1])]
    (sample,) = proxy.tape.samples(session)
    assert int(sample.loss_mask.sum()) == sum(len(call.token_ids) for call in calls)
    return turns


def answers_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The message that the client was told in each turn."""
    return [turn.response for turn in turns if turn.response is not None]


def said(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The same but for the calls' ids, which are made from the turn's own."""
    return [_without_ids(message) for message in answers_of(turns)]


def _without_ids(message: dict[str, Any]) -> dict[str, Any]:
    calls = [{**call, "id": None} for call in message.get("tool_calls", ())]
    return message | ({"tool_calls": calls} if calls else {})
