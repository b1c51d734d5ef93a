"""The conversation that renderers are measured on: an agent's tool loop of 50 turns, about 19,000 tokens of Qwen3's."""

import json
from typing import Any

from benchmarks.vocabulary import PARAGRAPH

TURNS = 50
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string", "description": f"The {key}."} for key in keys},
                "required": keys,
            },
        },
    }
    for name, description, keys in (
        ("read_file", "Read a file of the repository.", ["path"]),
        ("write_file", "Write a file of the repository.", ["path", "text"]),
        ("run", "Run a command in the repository and return what it prints.", ["command"]),
    )
]


def words(number: int, paragraphs: int) -> str:
    return "".join(PARAGRAPH.format(n=number + k, b=number % 97, c=(number + k) % 7919) for k in range(paragraphs))


def tool_result(number: int, paragraphs: int = 3) -> dict[str, Any]:
    """What a tool says; no two numbers give the same."""
    return {
        "role": "tool",
        "tool_call_id": f"call{number:05}",
        "content": f"$ exit 0 ({number})\n{words(number, paragraphs)}",
    }


def conversation(number: int) -> list[dict[str, Any]]:
    """Messages in OpenAI's shape; no two numbers share more than a few words, so that nothing can be remembered."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a careful engineer."},
        {"role": "user", "content": f"Make the tests of task {number} pass.\n{words(number, 1)}"},
    ]
    for turn in range(TURNS):
        at = 1000 * number + 7 * turn
        arguments = {"path": f"src/module_{at}.py"}
        messages += [
            {
                "role": "assistant",
                "content": "I read the next file.",
                "reasoning_content": words(at, 1).strip(),
                "tool_calls": [
                    {
                        "id": f"call{at:05}",
                        "type": "function",
                        "function": {"name": "read_file", "arguments": arguments},
                    }
                ],
            },
            tool_result(at),
        ]
    return messages


def completion(number: int) -> str:
    """What a model samples after it: 1,200 tokens of reasoning, words and a tool call, in Qwen3's format."""
    arguments = json.dumps({"path": f"src/module_{number}.py", "text": words(number, 3)})
    call = f'{{"name": "write_file", "arguments": {arguments}}}'
    thought = words(number, 12).strip()
    return f"<think>\n{thought}\n</think>\n\nI write it.\n<tool_call>\n{call}\n</tool_call><|im_end|>"
