"""The audit of what a model's chat template does to a growing conversation, for a person.

A template keeps prefixes if rendering a longer conversation begins with what the model read and wrote so far. Where it
does not, a trainer that renders history anew learns from tokens that were never sampled. The audit plays the usual ways
in which conversations grow, shows where a template breaks them, and says whether each is bridged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tickertape.renderers.choose import Choice, choose_renderer
from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.messages import Message, Tool, as_messages
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.template.renderer import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer

_CONTEXT = 48
"""Characters shown before a difference, and after it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The place where two renderings part."""

    common: str
    """The end of what they share."""
    sampled: str
    """The text as the model read and wrote it."""
    rendered: str
    """The text as the longer conversation is rendered."""


@dataclass(frozen=True, slots=True)
class Growth:
    """One way in which a conversation grows, and what the template does."""

    title: str
    difference: Difference | None = None
    """``None`` where the template keeps the prefix."""
    refusal: str | None = None
    """The reason why the template cannot render it at all."""
    unbridged: str | None = None
    """The reason why the chosen renderer does not bridge it; ``None`` where it does."""

    @property
    def keeps_prefix(self) -> bool:
        return self.difference is None and self.refusal is None


@dataclass(frozen=True, slots=True)
class Understood:
    """The things that are known of how the model writes, each with how it is known; for people."""

    thoughts: str
    calls: str
    stops: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The complete report."""

    choice: Choice
    understood: "Understood"
    growths: tuple[Growth, ...]

    @property
    def keeps_prefixes(self) -> bool:
        """Returns True if the template keeps the prefix in every way of growing that it renders."""
        return all(growth.keeps_prefix or growth.refusal for growth in self.growths)


def audit(tokenizer: Tokenizer) -> Audit:
    """Plays every way of growing against the model's own template.

    Raises:
        RenderError: there is no template.
    """
    if tokenizer.chat_template is None:
        raise RenderError(f"{tokenizer.name} has no chat template: there is nothing to audit")
    choice = choose_renderer(tokenizer)
    reference = TemplateRenderer(tokenizer)
    growths = tuple(_grow(reference, choice, *conversation) for conversation in _growths())
    return Audit(choice, _understood(reference, choice.renderer), growths)


def _understood(reference: TemplateRenderer, renderer: Renderer) -> Understood:
    format_, probed = renderer.response_format, reference.probed
    by_template = isinstance(renderer, TemplateRenderer)
    known = None if by_template else f"as {renderer.name} has it, which renders like the template"
    thoughts, calls = "not found: the template shows none", "not found: the template shows none"
    if format_.reasoning is not None:
        opened = ", opened by the prompt" if format_.starts_in_reasoning else ""
        tags = " … ".join((format_.reasoning.open, format_.reasoning.close))
        thoughts = f"between {tags}{opened} ({known or probed.thoughts_by})"
    elif format_.thinks:
        thoughts = f"in messages of their own ({known})"
    if format_.tool_calls is not None:
        opens = " or ".join(format_.tool_calls.opens)
        way = f"behind {opens}" if opens else "at the start of the answer, without a tag"
        calls = f"{way} ({known or f'{probed.calls_by}; read as those of {probed.calls_of}'})"
    elif format_.thinks and known and not format_.reasoning:
        calls = f"in messages of their own ({known})"
    elif probed.shows_calls:
        calls = "not found: the template shows calls, in no way that is known here; they stay text"
    own = [renderer.tokenizer.decode([stop]) for stop in renderer.get_stop_sequences()]
    named = {renderer.tokenizer.decode([stop]) for stop in renderer.tokenizer.stop_ids}
    stops = [f"{stop} ({_STOPS[stop in named]})" for stop in own]
    return Understood(thoughts, calls, ", ".join(stops) or "not found")


#: How a stop token is known, by whether the model's configuration names it.
_STOPS = {True: "the model's configuration names it", False: "it closes a turn"}


def _grow(
    reference: TemplateRenderer,
    choice: Choice,
    title: str,
    before: Sequence[Message],
    new: Sequence[Message],
    tools: Sequence[Tool] | None,
) -> Growth:
    try:
        prompt = reference.build_generation_prompt(before[:-1], tools).token_ids
        answered = reference.build_conversation(before, tools).token_ids
        longer = reference.build_generation_prompt([*before, *new], tools).token_ids
    except RenderError as refusal:
        return Growth(title, refusal=str(refusal))
    if answered[: len(prompt)] != prompt:
        return Growth(
            title, _difference(reference, prompt, answered), unbridged=_unbridged(choice, prompt, [], new, tools)
        )
    wrote = _up_to_stop(answered[len(prompt) :], reference.get_stop_sequences())
    read_and_wrote = [*prompt, *wrote]
    unbridged = _unbridged(choice, prompt, wrote, new, tools)
    if longer[: len(read_and_wrote)] == read_and_wrote:
        return Growth(title, unbridged=unbridged)
    return Growth(title, _difference(reference, read_and_wrote, longer), unbridged=unbridged)


def _up_to_stop(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Returns what the model would have sampled of a rendered answer."""
    end = next((k + 1 for k, i in enumerate(ids) if i in stops), len(ids))
    return list(ids[:end])


def _unbridged(
    choice: Choice, prompt: Sequence[int], wrote: Sequence[int], new: Sequence[Message], tools: Sequence[Tool] | None
) -> str | None:
    try:
        choice.renderer.bridge_suffix(wrote, new, tools, prompt_ids=prompt)
    except (BridgeRefused, RenderError) as refusal:
        return str(refusal)
    return None


def _difference(reference: TemplateRenderer, sampled: Sequence[int], rendered: Sequence[int]) -> Difference:
    at = next((k for k, (a, b) in enumerate(zip(sampled, rendered, strict=False)) if a != b), None)
    at = min(len(sampled), len(rendered)) if at is None else at
    show = reference.tokenizer.decode
    return Difference(show(sampled[:at])[-_CONTEXT:], show(sampled[at:])[:_CONTEXT], show(rendered[at:])[:_CONTEXT])


_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def _growths() -> Iterator[tuple[str, list[Message], list[Message], Sequence[Tool] | None]]:
    call = {"id": "call00000", "type": "function", "function": {"name": "look_up", "arguments": {"city": "Rome"}}}
    question = {"role": "user", "content": "How is it in Rome?"}
    answer = {"role": "assistant", "content": "Fair."}
    thought = {**answer, "reasoning_content": "I know this."}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    called_with_thought = {**called, "reasoning_content": "I need the tool."}
    result = {"role": "tool", "tool_call_id": "call00000", "name": "look_up", "content": "sunny"}
    more = {"role": "user", "content": "And tomorrow?"}
    edges = {"role": "assistant", "content": " Fair. \n"}
    shapes: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]], bool]] = [
        ("a user turn after an answer", [question, answer], [more], False),
        ("a user turn after an answer with white space around it", [question, edges], [more], False),
        ("a user turn after a thought", [question, thought], [more], False),
        ("a tool result after a call", [question, called], [result], True),
        ("a tool result after a thought and a call", [question, called_with_thought], [result], True),
        ("a user turn after a tool loop", [question, called, result, answer], [more], True),
        ("a user turn after a tool loop with thoughts", [question, called_with_thought, result, thought], [more], True),
    ]
    for title, before, new, with_tools in shapes:
        yield title, as_messages(before), as_messages(new), [_TOOL] if with_tools else None
