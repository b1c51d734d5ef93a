"""The demo's agent: an ordinary tool loop through the OpenAI SDK. It knows messages and nothing of tokens.

The default model has 135 million parameters and was never taught to call tools. What makes it call one reliably is a
system message that names the tags and a few worked examples in the history; its calls, and its mistakes, are its own.
"""

import ast
import json
import operator
from collections.abc import Callable

from openai import OpenAI
from openai.types.chat import (
    ChatCompletionFunctionToolParam,
    ChatCompletionMessage,
    ChatCompletionMessageParam,
    ChatCompletionMessageToolCallUnion,
)

#: Each with what its answer must hold.
QUESTIONS = {
    "A book costs 17 dollars. How much are 31 books?": "527",
    "A chair costs 89 dollars. How much are 64 chairs?": "5696",
    "A ticket costs 46 dollars. How much are 73 tickets?": "3358",
}

_SYSTEM = "Start the answer to every question with <tool_call>. After <tool_response>, say the answer."

#: Question and expression; results and answers of the examples are computed by the tool itself.
_EXAMPLES = (
    ("A hat costs 25 dollars. How much are 13 hats?", "25 * 13"),
    ("A lamp costs 58 dollars. How much are 24 lamps?", "58 * 24"),
    ("A shirt costs 31 dollars. How much are 16 shirts?", "31 * 16"),
    ("A coat costs 92 dollars. How much are 37 coats?", "92 * 37"),
)

_TOOL: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluates an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}

#: Calls of the model for one question.
_MOST_STEPS = 4
#: Tokens of one completion; a call takes about 35.
_MOST_TOKENS = 96

#: Gets ``(who, what)`` as it happens.
Tell = Callable[[str, str], None]


class Agent:
    """One conversation.

    Args:
        client: its base URL names the session.
        model: the served model's name.
        tell: hears every step.
    """

    def __init__(self, client: OpenAI, model: str, tell: Tell) -> None:
        self._client = client
        self._model = model
        self._tell = tell
        self._messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": _SYSTEM}, *_worked_examples()]

    def ask(self, question: str) -> str:
        """Puts a question; returns the model's answer, or nothing if there is none after ``_MOST_STEPS``."""
        self._tell("user", question)
        self._messages.append({"role": "user", "content": question})
        for _ in range(_MOST_STEPS):
            message = self._complete()
            if message.tool_calls:
                for call in message.tool_calls:
                    self._run(call)
            elif "<tool_" in (message.content or ""):
                self._tell("model", f"{message.content}   [no call that can be read]")
                self._object()
            else:
                self._tell("model", message.content or "(nothing)")
                return message.content or ""
        self._tell("agent", f"gives up on this question after {_MOST_STEPS} tries")
        return ""

    def _complete(self) -> ChatCompletionMessage:
        completion = self._client.chat.completions.create(
            model=self._model, messages=self._messages, tools=[_TOOL], temperature=0, max_tokens=_MOST_TOKENS
        )
        message = completion.choices[0].message
        self._messages.append(message)  # type: ignore[arg-type]  # the SDK takes its own messages back
        return message

    def _run(self, call: ChatCompletionMessageToolCallUnion) -> None:
        """Runs the tool that the model called and gives it the result, errors included."""
        if call.type != "function":
            raise TypeError(f"no {call.type} tool was offered")
        self._tell("model", f"calls {call.function.name} with {call.function.arguments}")
        result = _use_tool(call.function.name, call.function.arguments)
        self._tell("tool", result)
        self._messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    def _object(self) -> None:
        objection = "That was no tool call. Write <tool_call>, the call as JSON, and </tool_call>."
        self._tell("agent", objection)
        self._messages.append({"role": "user", "content": objection})


def _worked_examples() -> list[ChatCompletionMessageParam]:
    messages: list[ChatCompletionMessageParam] = []
    for number, (question, expression) in enumerate(_EXAMPLES):
        call_id, result = f"example{number}", calculate(expression)
        arguments = json.dumps({"expression": expression})
        messages += [
            {"role": "user", "content": question},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": call_id, "type": "function", "function": {"name": "calculator", "arguments": arguments}}
                ],
            },
            {"role": "tool", "tool_call_id": call_id, "content": result},
            {"role": "assistant", "content": f"They cost {result} dollars."},
        ]
    return messages


def _use_tool(name: str, arguments: str) -> str:
    """The tool's result as text for the model; what is wrong with the call, if something is."""
    if name != "calculator":
        return f"error: there is no tool {name}"
    try:
        return calculate(str(json.loads(arguments)["expression"]))
    except KeyError as error:
        return f"error: the argument {error} is missing"
    except (ArithmeticError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        return f"error: {error}"


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> str:
    """The value of an arithmetic expression: numbers, ``+ - * /``, parentheses; nothing else is evaluated.

    Raises:
        ArithmeticError, RecursionError, SyntaxError, ValueError: it has no value, or is no such expression.
    """
    value = _value(ast.parse(expression.strip(), mode="eval").body)
    return str(int(value) if float(value).is_integer() else round(value, 6))


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"not arithmetic: {ast.unparse(node)}")
