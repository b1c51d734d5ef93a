"""Tools of the Responses protocol ⇄ functions, which is all that models know.

A function in a namespace gets a name of both, ``namespace__name``. A custom tool, whose input is free text, becomes a
function of one string. What a tool was besides is its *form*, kept on the turn, by which calls are sent in the client's
own terms.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tickertape.renderers.messages import ToolCall
from tickertape.server.dialects.reading import extras, must_call, read_fields
from tickertape.server.dialects.responses.schema import CustomFormat, CustomTool, FunctionTool, NamespaceTool
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import ToolChoice

#: How a tool differs from a plain function, by the function's name: ``type``, ``name``, ``namespace``, ``about`` (of
#: the namespace), ``format``, ``strict``. Plain ones are not in it.
Forms: TypeAlias = Mapping[str, Mapping[str, Any]]

#: Tools that a client may offer unasked (Codex does) and a model need not use: left out, and reported as ignored.
_LEFT_OUT = ("web_search", "web_search_preview", "tool_search")
_CUSTOM_PARAMETERS = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(slots=True)
class Toolbox:
    """The tools of a request."""

    functions: list[dict[str, Any]] = field(default_factory=list)
    """In OpenAI's chat shape, as models are shown them."""
    forms: dict[str, dict[str, Any]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    """Settings that are not done, by their place."""

    @property
    def names(self) -> list[str]:
        return [function["function"]["name"] for function in self.functions]

    def add(self, name: str, description: str | None, parameters: Any, form: dict[str, Any], place: str) -> None:
        """
        Raises:
            InvalidRequest: there is one of this name already.
        """
        if name in self.names:
            raise InvalidRequest(f"{place}: there are two tools named {name!r}", param=place, code="invalid_value")
        function: dict[str, Any] = {"name": name}
        if description is not None:
            function["description"] = description
        if parameters is not None:
            function["parameters"] = parameters
        self.functions.append({"type": "function", "function": function})
        if form:
            self.forms[name] = form


def read_tools(given: Iterable[Mapping[str, Any]]) -> Toolbox:
    """The tools that a request offers.

    Raises:
        InvalidRequest: a tool has the wrong shape, or is one that OpenAI's servers run themselves.
    """
    toolbox = Toolbox()
    for k, tool in enumerate(given):
        _read_tool(toolbox, tool, f"tools[{k}]")
    return toolbox


def _read_tool(toolbox: Toolbox, tool: Mapping[str, Any], place: str) -> None:
    kind = tool.get("type")
    if kind == "namespace":
        namespace = read_fields(NamespaceTool, tool, place)
        toolbox.ignored += extras(namespace, f"{place}.")
        for k, inner in enumerate(namespace.tools):
            _read_callable(toolbox, inner, f"{place}.tools[{k}]", namespace)
    elif kind in _LEFT_OUT:
        toolbox.ignored.append(place)
    else:
        _read_callable(toolbox, tool, place, None)


def _read_callable(toolbox: Toolbox, tool: Mapping[str, Any], place: str, namespace: NamespaceTool | None) -> None:
    kind = tool.get("type")
    form: dict[str, Any] = {}
    about = space = None
    if namespace is not None:
        about, space = namespace.description, namespace.name
        form = {"name": tool.get("name"), "namespace": space, "about": about or ""}
    if kind == "function":
        function = read_fields(FunctionTool, tool, place)
        toolbox.ignored += extras(function, f"{place}.")
        if function.strict:
            form["strict"] = True
            toolbox.ignored.append(f"{place}.strict")
        name = flat_name(function.name, space)
        toolbox.add(name, _joined(about, function.description), function.parameters, form, place)
    elif kind == "custom":
        custom = read_fields(CustomTool, tool, place)
        toolbox.ignored += extras(custom, f"{place}.")
        form = {"type": "custom", **form}
        if custom.format is not None:
            form["format"] = custom.format.model_dump(exclude_none=True)
        if custom.format is not None and custom.format.type == "grammar":
            toolbox.ignored.append(f"{place}.format")  # it is shown to the model, which nothing holds to it
        name = flat_name(custom.name, space)
        description = _joined(about, custom.description, _grammar(custom.format))
        toolbox.add(name, description, _CUSTOM_PARAMETERS, form, place)
    else:
        raise InvalidRequest(
            f"{place} is of type {kind!r:.100}: tools that are run by OpenAI's servers are not here; offer a function, "
            "a custom tool, or a namespace of those",
            param=place,
            code="unsupported_value",
        )


def _joined(*texts: str | None) -> str | None:
    given = [text for text in texts if text]
    return "\n\n".join(given) if given else None


def _grammar(given: CustomFormat | None) -> str | None:
    if given is None or given.type != "grammar":
        return None
    return f"The input is text of this {given.syntax} grammar:\n{given.definition}"


def flat_name(name: str, namespace: str | None) -> str:
    """The function's name that a tool is shown to models under."""
    return name if namespace is None else f"{namespace}__{name}"


def shown_tools(functions: Iterable[Mapping[str, Any]], forms: Forms) -> list[dict[str, Any]]:
    """The tools in the client's terms again."""
    shown: list[dict[str, Any]] = []
    for tool in functions:
        function = tool["function"]
        form = forms.get(function["name"], {})
        one = _shown(function, form)
        namespace = form.get("namespace")
        if namespace is None:
            shown.append(one)
        elif shown and shown[-1]["type"] == "namespace" and shown[-1]["name"] == namespace:
            shown[-1]["tools"].append(one)
        else:
            shown.append({"type": "namespace", "name": namespace, "description": form["about"], "tools": [one]})
    return shown


def _shown(function: Mapping[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    description = function.get("description")
    if description is not None and form.get("about"):
        description = description.removeprefix(form["about"]).removeprefix("\n\n") or None
    name = form.get("name", function["name"])
    if form.get("type") != "custom":
        return {
            "type": "function",
            "name": name,
            "description": description,
            "parameters": function.get("parameters"),
            "strict": form.get("strict", False),
        }
    custom = {"type": "custom", "name": name, "description": description}
    if "format" in form:
        custom["format"] = form["format"]
        grammar = _grammar(CustomFormat.model_validate(form["format"]))
        if description is not None and grammar is not None:
            custom["description"] = description.removesuffix(grammar).removesuffix("\n\n") or None
    return custom


# Calls.


def custom_arguments(text: str) -> str:
    """A custom tool's input as the arguments of its function."""
    return json.dumps({"input": text}, ensure_ascii=False)


def custom_input(arguments: str) -> str:
    """The input that a model gave a custom tool; where it kept to no form, all that it wrote."""
    given = ToolCall("", arguments).arguments_value
    if isinstance(given, dict) and list(given) == ["input"] and isinstance(given["input"], str):
        return given["input"]
    return arguments


def read_tool_choice(choice: str | dict[str, Any] | None, offered: list[str], *, parallel: bool) -> ToolChoice:
    """
    Raises:
        InvalidRequest: it is no choice, or one of tools that are not offered.
    """
    if choice in (None, "auto", "none"):
        return ToolChoice(reads_calls=choice != "none", parallel=parallel)
    names = [] if choice == "required" else _named(choice)
    if names is not None:
        forced = must_call(names, offered, parallel=parallel)
        if forced is not None and _must(choice):
            return forced
        if forced is not None:
            return ToolChoice(names=forced.names, parallel=parallel)
    raise InvalidRequest(
        f"tool_choice {choice!r:.200} must be 'auto', 'none', 'required', a tool of type 'function' or 'custom', or "
        "'allowed_tools' of those, that is offered" + (f": {', '.join(offered)}" if offered else "; none is"),
        param="tool_choice",
        code="invalid_value",
    )


def _must(choice: Any) -> bool:
    return not isinstance(choice, dict) or choice.get("type") != "allowed_tools" or choice.get("mode") == "required"


def _named(choice: Any) -> list[str] | None:
    """Functions that a choice names; ``None`` if it is none."""
    if not isinstance(choice, dict):
        return None
    if choice.get("type") == "allowed_tools":
        tools = choice.get("tools")
        if choice.get("mode") not in ("auto", "required") or not isinstance(tools, list) or not tools:
            return None
    else:
        tools = [choice]
    names = [_name(tool) for tool in tools]
    return None if None in names else [name for name in names if name is not None]


def _name(tool: Any) -> str | None:
    if not isinstance(tool, dict) or tool.get("type") not in ("function", "custom"):
        return None
    name, namespace = tool.get("name"), tool.get("namespace")
    if not isinstance(name, str) or not isinstance(namespace, str | None):
        return None
    return flat_name(name, namespace)
