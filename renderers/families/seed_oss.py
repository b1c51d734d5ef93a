"""Seed-OSS: tools declared as Python functions, values of calls as Python prints them, a budget for thinking.

Source: the template of ByteDance-Seed/Seed-OSS-36B-Instruct.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tickertape.renderers.draft import Padding
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.elements import Elements
from tickertape.renderers.tool_calls.section import Section

BEGIN, END = "<seed:bos>", "<seed:eos>"
OPEN, CLOSE = "<seed:tool_call>", "</seed:tool_call>"
REFLECT = ("<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>")
THINK = TaggedReasoning("<seed:think>", "</seed:think>", around_close=("", ""), inside=REFLECT)
CALL = Elements(value_pad="", value_text=str, enclosing=(OPEN, CLOSE))
CALL_SHOWN = (
    f"工具调用请遵循如下格式:\n{OPEN}\n<function=example_function_name>\n"
    "<parameter=example_parameter_1>value_1</parameter>\n"
    "<parameter=example_parameter_2>This is the value for the second parameter\nthat can span\nmultiple lines"
    f"</parameter>\n</function>\n{CLOSE}\n"
)
DEFAULT_SYSTEM = (
    "You are Doubao, a helpful AI assistant. You may call one or more functions to assist with the user query."
)
JSON_TOOLS = (
    "\nTool List:\nYou are authorized to use the following tools (described in JSON Schema format). Before performing "
    "any task, you must decide how to call them based on the descriptions and parameters of these tools.\n"
)
NO_THOUGHT = (
    f"{THINK.open}\n<seed:cot_budget_reflect>The current thinking budget is 0, so I will directly start answering the "
    f"question.</seed:cot_budget_reflect>\n{THINK.close}"
)
BUDGET_OF_NOTHING = (
    "You are an intelligent assistant that can answer questions in one step without the need for reasoning and "
    "thinking, that is, your thinking budget is 0. Next, please skip the thinking process and directly start answering "
    "the user's questions."
)
BUDGET = (
    "You are an intelligent assistant with reflective ability. In the process of thinking and reasoning, you need to "
    "strictly follow the thinking budget, which is {budget}. That is, you need to complete your thinking within "
    "{budget} tokens and start answering the user's questions. You will reflect on your thinking process every {step} "
    "tokens, stating how many tokens have been used and how many are left."
)
#: Thinking budgets up to which the model reflects each so many tokens.
REFLECTIONS = {0: 0, 512: 128, 1024: 256, 2048: 512, 4096: 512, 8192: 1024, 16384: 1024}


PYTHON_TYPES = {"string": "str", "number": "int", "integer": "int", "boolean": "bool", "array": "list"}


class SeedOSS(Format):
    name = "seed-oss"
    markers = (BEGIN, END)
    stop_tokens = (END,)
    close = (output_markup(END),)
    response = ResponseFormat(
        reasoning=THINK,
        tool_calls=Section(OPEN, CLOSE, CALL, line="\n", each=True, padding="\n"),
        padding=Padding(lead_in="\n", thought="", before_calls="\n\n"),
    )

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        thinking_budget: int = -1,
        use_json_tooldef: bool = False,
        history: History | str = History.EXACT,
    ) -> None:
        """``thinking_budget`` in tokens, -1 for none; ``use_json_tooldef`` shows tools as JSON."""
        super().__init__(tokenizer, history=history)
        self.thinking_budget = thinking_budget
        self.use_json_tooldef = use_json_tooldef

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        if system is not None or tools:
            yield markup(f"{BEGIN}system\n")
            yield content(system.text) if system is not None else markup(DEFAULT_SYSTEM)
        yield from self.tools(tools)
        if system is not None or tools:
            yield markup(END)
        if self.thinking_budget != -1:
            yield markup(f"{BEGIN}system\n{self._budget_words()}\n{END}")

    def tools(self, tools: Sequence[Tool]) -> Iterator[Piece]:
        if self.use_json_tooldef:
            yield markup(JSON_TOOLS)
            yield content(json.dumps(list(tools), ensure_ascii=False))
        else:
            yield from (content(_python_stub(tool["function"])) for tool in tools)
        if tools:
            yield markup("\n" + CALL_SHOWN)

    def _budget_words(self) -> str:
        if self.thinking_budget == 0:
            return BUDGET_OF_NOTHING
        step = next((REFLECTIONS[limit] for limit in REFLECTIONS if self.thinking_budget <= limit), 1024)
        return BUDGET.format(budget=self.thinking_budget, step=step)

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "assistant":
            yield markup(f"{BEGIN}assistant")
            yield from self.said(place)
        else:
            yield markup(f"{BEGIN}{message.role}\n")
            yield content(message.text)
            yield markup(END)

    def said(self, place: Place) -> Iterator[Piece]:
        """Pieces of an assistant message after its role, each part on a line of its own. The template does not close
        a message without content and calls."""
        message = place.message
        reasoning, text = message.reasoning, message.text
        if not place.exact:
            reasoning, text = (reasoning or "").strip() or None, text.strip()
        parts: list[list[Piece]] = []
        if reasoning is not None:
            parts.append([output_markup(THINK.open), output(reasoning), output_markup(THINK.close)])
        elif place.exact and self.thinking_budget == 0:
            parts.append([markup(NO_THOUGHT)])  # the prompt had it
        if text:
            parts.append([output(text), output_markup("\n" if message.tool_calls else "")])
        if message.tool_calls or (place.exact and not parts):
            parts.append(list(self.calls(message)))
        for k, part in enumerate(parts):
            yield output_markup("\n") if k else markup("\n")
            yield from part
        if place.exact or text or message.tool_calls:
            yield from self.close

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup(f"{BEGIN}assistant\n" + (NO_THOUGHT if self.thinking_budget == 0 else ""))


def _python_stub(function: Mapping[str, Any]) -> str:
    """A function as Python would declare it."""
    parameters = function.get("parameters", {})
    properties, required = parameters.get("properties", {}), parameters.get("required", ())
    signature = ",".join(f"{name}: {_python_type(schema)}" for name, schema in properties.items())
    lines = [f"\n\nFunction:\ndef {function['name']}({signature}):", '    """']
    lines += ["    " + str(function.get("description", "")).strip(), ""]
    lines += ["    Args:"] if properties else [""]
    for name, schema in properties.items():
        note = "必填" if name in required else "选填"
        lines.append(f"    - {name} ({_python_type(schema)}) [{note}]: {schema.get('description') or ''}")
    returns = function.get("returns", {}).get("properties", {})
    lines += ["    Returns:"] if returns else [""]
    for name, schema in returns.items():
        lines.append(f"    - {name} ({_python_type(schema)}): {schema.get('description') or ''}")
    return "\n".join([*lines, '    """'])


def _python_type(schema: Mapping[str, Any]) -> str:
    named = schema.get("type")
    return PYTHON_TYPES.get(named, "Any") if isinstance(named, str) else "Any"
