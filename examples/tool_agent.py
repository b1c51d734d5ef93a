"""An agent with a tool, rewarded turn by turn: `python -m examples.tool_agent`.

The agent is the OpenAI SDK and a loop. Every turn of it is on tape token by token, and the whole conversation is one
sample. A tiny model learns from what it sees, so four worked examples come first.
"""

import json
import re
from typing import Any

from openai import OpenAI

from examples.serving import main
from tickertape.clients import OpenSession, TrajectoryClient

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluates an arithmetic expression.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
SYSTEM = "Start the answer to every question with <tool_call>. After <tool_response>, say the answer."
WORKED = [("hat", 25, 13), ("lamp", 58, 24), ("shirt", 31, 16), ("coat", 92, 37)]
ASKED = [("book", 17, 31), ("chair", 89, 64), ("ticket", 46, 73)]
MOST_STEPS = 4


def question(thing: str, price: int, count: int) -> str:
    return f"A {thing} costs {price} dollars. How much are {count} {thing}s?"


def multiply(arguments: str) -> str:
    """The tool."""
    try:
        found = re.fullmatch(r"\s*(\d+)\s*\*\s*(\d+)\s*", json.loads(arguments)["expression"])
    except (ValueError, KeyError, TypeError) as error:
        return f"error: {error!r}"
    return str(int(found[1]) * int(found[2])) if found else "error: not a product of two numbers"


def worked_examples() -> list[Any]:
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    for thing, price, count in WORKED:
        call = {"name": "calculator", "arguments": json.dumps({"expression": f"{price} * {count}"})}
        messages += [
            {"role": "user", "content": question(thing, price, count)},
            {"role": "assistant", "tool_calls": [{"id": thing, "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": thing, "content": str(price * count)},
            {"role": "assistant", "content": f"They cost {price * count} dollars."},
        ]
    return messages


def answer(client: OpenAI, model: str, messages: list[Any]) -> str:
    """Lets the model call its tool until it says something."""
    for _ in range(MOST_STEPS):
        message = client.chat.completions.create(
            model=model, messages=messages, tools=[TOOL], temperature=0, max_tokens=64
        ).choices[0].message  # fmt: skip
        messages.append(message)
        for call in message.tool_calls or ():
            result = multiply(call.function.arguments)  # type: ignore[union-attr]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        if not message.tool_calls:
            return message.content or ""
    return ""


def reward(session: OpenSession, right: int) -> None:
    """The share of right answers for the session; for each turn, whether its tool calls could be read."""
    readable = {turn.id: 0.0 if turn.outcome == "parse_failed" else 1.0 for turn in session.turns()}
    session.reward(right / len(ASKED), turns=readable)


def run(url: str) -> None:
    with TrajectoryClient(url, timeout=300) as tape:
        with tape.session(task_id="prices", metadata={"agent": "tool_agent"}) as session:
            with OpenAI(base_url=session.base_url, api_key="none") as client:
                model, messages, right = client.models.list().data[0].id, worked_examples(), 0
                for thing, price, count in ASKED:
                    messages.append({"role": "user", "content": question(thing, price, count)})
                    said = answer(client, model, messages)
                    print(f"{question(thing, price, count)} → {said}")
                    right += str(price * count) in said
            reward(session, right)
        (sample,) = tape.samples(session.id)
        statistics = tape.get_session(session.id).statistics or {}
    print(
        f"{len(sample.turn_ids)} turns are one sample of {len(sample.token_ids)} tokens: {', '.join(sample.outcomes)}"
    )
    print(f"one sample a turn would have been {statistics['per_turn_tokens']} tokens; reward {sample.reward:.2f}")


if __name__ == "__main__":
    main(run)
