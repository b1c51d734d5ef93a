"""Chat templates as ``transformers`` renders them (``utils/chat_template_utils.py``), which is slow to import.

They come from the hub, so they are programs of strangers: they run in Jinja's sandbox, may change nothing that they are
given, and store no attribute with an underscore.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tickertape.renderers.errors import RenderError

#: A template is a program of the model's makers: on messages that it was not written for it can raise any of these.
TEMPLATE_FAILURES = (
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def render_template(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    *,
    add_generation_prompt: bool,
    **variables: Any,
) -> str:
    """A conversation as a chat template writes it.

    Args:
        template: in Jinja's language.
        messages: plain JSON in OpenAI's shape.
        tools: JSON schemas of functions.
        add_generation_prompt: whether it ends where the assistant starts.
        **variables: what else the template sees.

    Raises:
        jinja2.TemplateError: what the template says of these messages, or of itself; any other exception that it meets.
    """
    seen = [_with_thinking(message) for message in messages]
    return _compiled(template).render(
        messages=seen, tools=tools, documents=None, add_generation_prompt=add_generation_prompt, **variables
    )


def variables_of(template: str) -> frozenset[str]:
    """Returns the names of what a template reads beside the conversation: the variables that a caller may set.

    Raises:
        RenderError: it is no template.
    """
    environment = _environment()
    try:
        parsed = environment.parse(template)
    except jinja2.TemplateSyntaxError as error:
        raise RenderError(f"the chat template is not Jinja: {error}") from error
    return frozenset(jinja2.meta.find_undeclared_variables(parsed) - _GIVEN - environment.globals.keys())


#: What :func:`render_template` itself gives to a template.
_GIVEN = frozenset({"messages", "tools", "documents", "add_generation_prompt"})


@lru_cache
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    return environment


def _with_thinking(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Reasoning also under the name that gpt-oss's template reads."""
    thinking = message.get("reasoning_content")
    return message if thinking is None else {"thinking": thinking, **message}


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # local time, as theirs


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what the assistant wrote; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's)

    def parse(self, parser: Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

    def _as_it_is(self, caller: Any) -> Any:
        return caller()


class _Dict:
    """``dict`` for templates, without what a class's attributes lead to."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """``namespace`` for templates."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *rest = args  # so that ``namespace(self=…)`` works
        attributes = dict(*rest, **values)
        for name in attributes:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template cannot store an attribute that begins with an underscore: {name!r}")
