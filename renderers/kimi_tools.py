"""Tools as Kimi's own tokenizers hand them to their templates: sorted by key, and from K2.5 on in TypeScript.

Sources: ``tokenization_kimi.py`` of moonshotai/Kimi-K2-Instruct, Kimi-K2-Thinking and Kimi-Linear, which sort; that of
Kimi-K2.5, which sorts and gives its template the variable ``tools_ts_str``, and its ``tool_declaration_ts.py``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tickertape.renderers.messages import Tool

#: What shows a template of Kimi's, and one that shows tools in TypeScript.
_DECLARES, _VARIABLE = "tool_declare<|im_middle|>", "tools_ts_str"
_INDENT = "  "
_NAMES = {
    "string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null", "object": "{}",
    "array": "Array<any>",
}  # fmt: skip
_BOUNDS = {
    "string": ("maxLength", "minLength", "pattern"), "number": ("maximum", "minimum"),
    "integer": ("maximum", "minimum"), "array": ("maxItems", "minItems"),
}  # fmt: skip
_IN_ENUM = {"string": str, "number": int | float, "integer": int, "boolean": bool}


def for_template(template: str, tools: Sequence[Tool] | None) -> tuple[Sequence[Tool] | None, dict[str, str]]:
    """The tools, and variables beside them, as the tokenizer of a template's model hands them over."""
    if not tools or _DECLARES not in template:
        return tools, {}
    declared = typescript(tools) if _VARIABLE in template else None
    return sorted_deeply(tools), {_VARIABLE: declared} if declared else {}


def sorted_deeply(value: Any) -> Any:
    """The value with the keys of every object in it in order."""
    if isinstance(value, Mapping):
        return {key: sorted_deeply(inner) for key, inner in sorted(value.items())}
    return [sorted_deeply(inner) for inner in value] if isinstance(value, list | tuple) else value


def typescript(tools: Sequence[Tool]) -> str | None:
    """A namespace that declares the tools; ``None`` where it cannot express one of them, so that JSON is shown."""
    functions = [t["function"] for t in sorted_deeply(tools) if t.get("type") == "function" and t.get("function")]
    try:
        declared = [_Declaration().of(function) for function in functions]
    except (ValueError, TypeError, AttributeError, LookupError):  # as the tokenizer has it: no schema it knows
        return None
    shown = "\n".join(declared)
    return f"# Tools\n\n## functions\nnamespace functions {{\n{shown}\n}}\n" if declared else None


class _Declaration:
    """One function, and the types that its schema names."""

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}
        self._refers_to_itself = False

    def of(self, function: Mapping[str, Any]) -> str:
        parameters = function.get("parameters") or {}
        given = self._object(parameters, "")
        lines = []
        if self._refers_to_itself:
            fields = ",\n".join(text for _, _, text in self._fields(parameters, _INDENT))
            lines.append(f"interface parameters {{{f'{chr(10)}{fields}{chr(10)}' if fields else ''}}}")
            given = "parameters"
        for name, schema in list(self._named.items()):
            lines += [*_comment(schema.get("description"), ""), f"interface {name} {self._type(schema, '')}"]
        lines += [*_comment(function.get("description"), "")]
        return "\n".join([*lines, f"type {function.get('name', 'function')} = (_: {given}) => any;"])

    def _type(self, schema: Any, indent: str) -> str:
        if isinstance(schema, bool):
            return "any" if schema else "null"
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "anyOf" in schema:
            return " | ".join(self._type(each, indent) for each in schema["anyOf"])
        if "enum" in schema:
            return _enum(schema["enum"], schema.get("type"))
        kind = schema.get("type")
        if isinstance(kind, list):
            return " | ".join(_NAMES[each] for each in kind)
        if kind == "object":
            return self._object(schema, indent)
        if kind == "array":
            return self._array(schema.get("items") or {}, indent)
        if kind is None and schema:
            raise ValueError("a schema without a type")
        return "any" if kind is None else "number" if kind == "integer" else str(kind)

    def _reference(self, reference: str) -> str:
        if reference == "#":
            self._refers_to_itself = True
            return "parameters"
        name = reference.removeprefix("#/$defs/")
        if name == reference or name not in self._named:
            raise ValueError(f"{reference} is not defined")
        return name

    def _object(self, schema: Mapping[str, Any], indent: str) -> str:
        self._named.update(schema.get("$defs") or {})
        inner, more = indent + _INDENT, schema.get("additionalProperties")
        others = (
            "never" if more is False else None if more is None else "any" if more is True else self._type(more, inner)
        )
        fields = [text for _, _, text in sorted(self._fields(schema, inner))]
        fields += [f"{inner}[k: string]: {others}"] if others is not None else []
        return "{\n" + ",\n".join(fields) + f"\n{indent}}}" if fields else "{}"

    def _fields(self, schema: Mapping[str, Any], indent: str) -> Iterator[tuple[bool, str, str]]:
        """Yields for each field whether it may be left out, its name, and how it is declared."""
        for name, inner in (schema.get("properties") or {}).items():
            optional, default = name not in schema.get("required", ()), None
            lines = self._documented(inner, indent)
            if isinstance(inner, Mapping) and (default := inner.get("default")) is not None:
                shown = repr(default) if isinstance(default, int | float) else json.dumps(default, ensure_ascii=False)
                lines.append(f"{indent}// Default: {shown}")
            declared = f"{indent}{name}{'?' if optional else ''}: {self._type(inner, indent)}"
            yield optional, name, "\n".join([*lines, declared])

    def _array(self, items: Any, indent: str) -> str:
        inner = indent + _INDENT
        if not (lines := self._documented(items, inner)):
            return f"Array<{self._type(items, indent)}>"
        return "\n".join(["Array<", *lines, inner + self._type(items, inner), f"{indent}>"])

    def _documented(self, schema: Any, indent: str) -> list[str]:
        """Returns what is said of a type, and within what bounds it is."""
        if not isinstance(schema, Mapping):
            return []
        lines = _comment(schema.get("description"), indent)
        is_plain = not any(key in schema for key in ("$ref", "anyOf", "enum")) and isinstance(schema.get("type"), str)
        bounds = _BOUNDS.get(schema["type"], ()) if is_plain else ()
        if said := ", ".join(f"{key}: {schema[key]}" for key in bounds if key in schema):
            lines.append(f"{indent}// {said}")
        return lines


def _comment(text: Any, indent: str) -> list[str]:
    return [f"{indent}// {line}" if line else "" for line in text.split("\n")] if text else []


def _enum(values: Sequence[Any], kind: Any) -> str:
    """Of values that are not of the type that is declared beside them the tokenizer makes nothing."""
    if isinstance(kind, list):
        if len(kind) > 2 or (len(kind) == 2 and "null" not in kind):
            raise ValueError(f"an enum of the types {kind}")
        kind = next((each for each in kind if each != "null"), "null")
    known = _IN_ENUM.get(str(kind))
    if known is not None and not all(value is None or isinstance(value, known) for value in values):
        raise ValueError(f"an enum of the type {kind} with other values")
    return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)
