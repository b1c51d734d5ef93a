"""Which renderer fits a model: chosen by evidence, never by name.

A family is chosen only if it renders a probe set token for token like the model's own chat template; otherwise the
template itself is driven.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from inspect import signature
from typing import Any

from tickertape.renderers.errors import RenderError
from tickertape.renderers.families import FAMILIES
from tickertape.renderers.format import Format, History
from tickertape.renderers.messages import Message, Tool, ToolCall, as_messages
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.template.jinja import variables_of
from tickertape.renderers.template.renderer import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer, TokenizerLike


@dataclass(frozen=True, slots=True)
class Choice:
    """A renderer, and why it is this one."""

    renderer: Renderer
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options that :func:`get_renderer` must be given, beside the name, to make it again."""
    disagreements: tuple[str, ...] = ()
    """For each family that was ruled out, a line that says what it does differently."""
    named: str | None = None
    """The name that it was asked for by, if it was; a class of your own is known by no other."""

    @property
    def name(self) -> str:
        """Returns the name from which :func:`get_renderer` makes it again."""
        return self.named or self.renderer.name


def get_renderer(
    name: str, tokenizer: TokenizerLike, *, history: History | str = History.EXACT, **options: Any
) -> Renderer:
    """The renderer of a family by name, or of the model's own template (``"template"``).

    Args:
        name: a key of :data:`FAMILIES`, ``"template"``, or the dotted path of a :class:`Renderer` of your own
            (``package.module.Class``).
        tokenizer: a hub name, a directory, or a loaded tokenizer.
        history: see :class:`~tickertape.renderers.format.Format`. ``"template"`` renders whole conversations in its own
            way whatever this says.
        **options: the family's own (``enable_thinking=False`` for Qwen3); the template's variables for ``"template"``.

    Raises:
        ValueError: no family of that name, or an option that it does not have.
        RenderError: the vocabulary lacks the family's control tokens, or there is no template.
    """
    made_by = renderer_class(name)
    if issubclass(made_by, Format):
        options = {"history": history, **options}
    try:
        return made_by(tokenizer, **options)
    except TypeError as error:
        raise ValueError(f"renderer {name!r}: {error}") from error


def renderer_class(name: str) -> type[Renderer]:
    """Returns the class of which :func:`get_renderer` makes a renderer.

    Raises:
        ValueError: there is no such renderer.
    """
    known: dict[str, type[Renderer]] = {TemplateRenderer.name: TemplateRenderer, **FAMILIES}
    if name in known:
        return known[name]
    module_name, _, class_name = name.rpartition(".")
    if not module_name or not all(map(str.isidentifier, name.split("."))):
        close = get_close_matches(name, known, 3)
        meant = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"there are: {', '.join(known)}, or package.module.Class"
        )
        raise ValueError(f"no renderer is called {name!r}; {meant}")
    try:
        found = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"renderer {name!r} cannot be imported (is it on PYTHONPATH?): {error}") from error
    if not (isinstance(found, type) and issubclass(found, Renderer)):
        raise ValueError(  # noqa: TRY004  (the name is wrong, whatever it stands for)
            f"renderer {name!r} is no subclass of tickertape.renderers.Renderer"
        )
    return found


def renderer_for(tokenizer: TokenizerLike, *, history: History | str = History.EXACT, **options: Any) -> Renderer:
    """The renderer that fits a model by evidence; :func:`choose_renderer` also says why."""
    return choose_renderer(tokenizer, history=history, **options).renderer


def choose_renderer(tokenizer: TokenizerLike, *, history: History | str = History.EXACT, **options: Any) -> Choice:
    """Tries each family against the model's own template on the probe set. Arguments as for :func:`get_renderer`.

    Raises:
        RenderError: the model has no template and is not ChatML either.
    """
    known = Tokenizer.load(tokenizer)
    if known.chat_template is None:
        return _without_template(known, history)
    read = variables_of(known.chat_template) if options else frozenset()
    evidence = _Evidence(TemplateRenderer(known, **{name: value for name, value in options.items() if name in read}))
    ruled_out: list[_Difference] = []
    for name, family in sorted(FAMILIES.items(), key=lambda item: evidence.is_general(item[0]), reverse=True):
        try:
            family_options = {**evidence.options_for(family), **options}
            differs = evidence.against(get_renderer(name, known, history=History.TEMPLATE, **family_options))
        except ValueError as error:
            differs = _Difference(str(error))
        if differs is None:
            reason = f"{name} renders every probe token for token like the model's own template"
            if not evidence.shows_tools:
                reason += f"; the template shows no tools, so they are written as {name} does"
            renderer = get_renderer(name, known, history=history, **family_options)
            return Choice(renderer, reason, {"history": history, **family_options}, _nearest_first(ruled_out))
        ruled_out.append(replace(differs, text=f"{name}: {differs.text}"))
    reason = "no family renders like the model's own template, which is used itself"
    # An option that no family has, nor the template, is refused there.
    renderer = evidence.reference if options.keys() <= read else TemplateRenderer(known, **options)
    return Choice(renderer, reason, options, _nearest_first(ruled_out))


def _without_template(tokenizer: Tokenizer, history: History | str) -> Choice:
    try:
        renderer = get_renderer(_GENERAL, tokenizer, history=history)
    except RenderError as error:
        raise RenderError(f"{tokenizer.name} has no chat template and no known format; name a family") from error
    return Choice(
        renderer, "the model has no chat template; its vocabulary has ChatML's turn markers", {"history": history}
    )


@dataclass(frozen=True, slots=True)
class _Difference:
    """A difference between a family and the template."""

    text: str
    after: int = 0
    """Probes that it rendered alike before."""


def _nearest_first(differences: Iterable[_Difference]) -> tuple[str, ...]:
    """The lines, of families that went farther first."""
    return tuple(found.text for found in sorted(differences, key=lambda found: -found.after))


class _Evidence:
    """The renderings that the model's own template makes of the probes, each rendered once."""

    def __init__(self, reference: TemplateRenderer) -> None:
        self.reference = reference
        self._expected: dict[int, list[int] | None] = {}

    @cached_property
    def shows_tools(self) -> bool:
        """Returns True if the template shows the model the tools that are offered."""
        return "look_up_weather" in self._text([_HELLO], [_TOOL])

    @cached_property
    def shows_calls(self) -> bool:
        """Returns True if the template shows the model the tools that it called."""
        called = Message("assistant", "", tool_calls=(ToolCall("look_up_weather", {"city": "Köln"}, "call00000"),))
        return "look_up_weather" in self._text([_HELLO, called, Message("user", "Go on.")], None)

    @cached_property
    def _question(self) -> str:
        return self._text([_HELLO], None)

    def _text(self, messages: Sequence[Message], tools: Sequence[Tool] | None) -> str:
        """A prompt's text; empty where the template refuses the messages."""
        try:
            ids = self.reference.build_generation_prompt(messages, tools).token_ids
        except RenderError:
            return ""
        return self.reference.tokenizer.decode(ids)

    def is_general(self, name: str) -> bool:
        """Returns True if a family comes before all others. Without tools many are alike, and the plainest claims
        least."""
        return name == _GENERAL and not self.shows_tools and not self.shows_calls

    def options_for(self, family: type[Format]) -> dict[str, Any]:
        """Options that are no defaults and can be read off the template's rendering, as far as the family has them."""
        known = signature(family.__init__).parameters
        shown = family.options_shown(self._question)
        return {key: value for key, value in shown.items() if key in known and known[key].default != value}

    def against(self, family: Renderer) -> _Difference | None:
        """The first probe that a family renders differently, or ``None``. Probes that the template refuses say nothing,
        and neither do tools, where the template shows neither them nor calls."""
        compared = 0
        for number, (title, messages, tools) in enumerate(_PROBES):
            expected = self._expect(number) if not tools or self.shows_tools or self.shows_calls else None
            if expected is None:
                continue
            try:
                got = _render(family, messages, tools)
            except RenderError as error:
                return _Difference(f"{title}: {error}", compared)
            if got != expected:
                return _Difference(f"{title}: {self._first_difference(got, expected)}", compared)
            compared += 1
        return None if compared else _Difference("the template renders none of the probes")

    def _expect(self, number: int) -> list[int] | None:
        if number not in self._expected:
            _, messages, tools = _PROBES[number]
            try:
                self._expected[number] = _render(self.reference, messages, tools)
            except RenderError:
                self._expected[number] = None
        return self._expected[number]

    def _first_difference(self, got: list[int], expected: list[int]) -> str:
        pairs = enumerate(zip(got, expected, strict=False))
        at = next((k for k, (a, b) in pairs if a != b), min(len(got), len(expected)))
        show = self.reference.tokenizer.decode
        return f"{show(got[at : at + 8])!r} where the template has {show(expected[at : at + 8])!r}"


def _render(renderer: Renderer, messages: list[Message], tools: Sequence[Tool] | None) -> list[int]:
    is_answered = messages[-1].role == "assistant"
    build = renderer.build_conversation if is_answered else renderer.build_generation_prompt
    return build(messages, tools).token_ids


#: What a model is taken for that shows no more than its turn markers.
_GENERAL = "chatml"
_HELLO = Message("user", "Hello.")
_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "look_up_weather",
        "description": "The weather in a city: “now” or on a day.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["city"],
        },
    },
}
#: Some templates refuse a parameter of several types, so it is probed apart.
_UNION_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "look_up_day",
        "parameters": {"type": "object", "properties": {"day": {"type": ["string", "null"]}}},
    },
}


def _call(arguments: dict[str, Any], number: int = 0) -> dict[str, Any]:
    function = {"name": "look_up_weather", "arguments": arguments}
    return {"id": f"call{number:05}", "type": "function", "function": function}


def _probes() -> list[tuple[str, list[Message], Sequence[Tool] | None]]:
    user = {"role": "user", "content": "How is the weather in Köln?\n"}
    system = {"role": "system", "content": "Answer in one line."}
    answer = {"role": "assistant", "content": "Fair, 21 °C."}
    thanks = {"role": "user", "content": "  Thanks! And tomorrow?"}
    asked = {"role": "assistant", "content": "I will look.", "tool_calls": [_call({"city": "Köln", "days": None})]}
    asked_mutely = {
        "role": "assistant",
        "content": "",
        "tool_calls": [_call({"city": "Köln"}), _call({"city": "Bonn"}, 1)],
    }
    result = {"role": "tool", "tool_call_id": "call00000", "content": '{"sky": "fair", "celsius": 21}'}
    second = {"role": "tool", "tool_call_id": "call00001", "content": "rain"}
    thought = {**answer, "reasoning_content": "They ask about today."}
    called_with_thought = {**asked, "reasoning_content": "I need the tool."}
    conversations: list[tuple[str, list[dict[str, Any]], Sequence[Tool] | None]] = [
        ("one question", [user], None),
        ("system message", [system, user], None),
        ("two system messages", [system, {**system, "content": "Be kind."}, user], None),
        ("two questions", [user, thanks], None),
        ("two exchanges", [system, user, answer, thanks], None),
        ("an answer at the end", [system, user, answer], None),
        ("an answer with a thought at the end", [user, answer, thanks, thought], None),
        ("an empty system message", [{**system, "content": ""}, user], None),
        ("a second system message", [system, user, answer, system, thanks], None),
        ("no system message", [user, answer, thanks, answer, user], None),
        ("reasoning in history", [system, user, thought, thanks], None),
        ("tools offered", [system, user], [_TOOL]),
        ("tools without system message", [user], [_TOOL, _TOOL]),
        ("tools under an empty system message", [{**system, "content": ""}, user], [_TOOL]),
        ("a parameter of several types", [user], [_TOOL, _UNION_TOOL]),
        ("tool loop", [system, user, asked, result], [_TOOL]),
        ("parallel calls", [user, asked_mutely, result, second], [_TOOL]),
        ("thought before a call", [user, called_with_thought, result], [_TOOL]),
        ("after a tool loop", [user, asked, result, answer, thanks], [_TOOL]),
    ]
    return [(title, as_messages(messages), tools) for title, messages, tools in conversations]


_PROBES = _probes()
