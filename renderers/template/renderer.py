"""Any other model, driven by its own chat template."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from tickertape.renderers.errors import RenderError
from tickertape.renderers.kimi_tools import for_template
from tickertape.renderers.messages import Message, Tool, ToolCall
from tickertape.renderers.pieces import Kind, Piece, Placed, Trust
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.template.attribution import attribute
from tickertape.renderers.template.bridge import Derivation
from tickertape.renderers.template.jinja import TEMPLATE_FAILURES, render_template, variables_of
from tickertape.renderers.template.literals import looked_for
from tickertape.renderers.template.probing import probe
from tickertape.renderers.template.quoting import Manner, Quoter, unescape
from tickertape.renderers.tokenizer import TokenizerLike

_Tools = Sequence[Mapping[str, Any]] | None
#: Tokens on which a model stops beside the one that closes a turn: after calls, for Llama's interpreter.
_BESIDE = {"<|eot|>": "<|eom|>", "<|eot_id|>": "<|eom_id|>"}
_RenderQuoted = Callable[[Sequence[Message], _Tools], str]
#: So many tokens at the end of a prompt hold its generation prompt.
_PROMPT_END = 256


class TemplateRenderer(Renderer):
    """Renders through a Jinja chat template, safely, and derives the bridge from it.

    Args:
        tokenizer: the model's; it brings the template unless ``template`` is given.
        template: a Jinja chat template.
        **options: variables for the template (``enable_thinking=False``, …), as ``chat_template_kwargs`` has them.

    Raises:
        RenderError: there is no template, or it does not read one of the options.
    """

    name = "template"

    def __init__(self, tokenizer: TokenizerLike, *, template: str | None = None, **options: Any) -> None:
        super().__init__(tokenizer)
        source = template or self.tokenizer.chat_template
        if source is None:
            raise RenderError(f"{self.tokenizer.name} has no chat template: pass template=, or name a family")
        self.template = source
        self._check_options(options)
        self.options = options
        self._arguments_as_text = self._wants_arguments_as_text()
        words = looked_for(source)
        control = self.tokenizer.control
        stops = [token for token, i in control.items() if i in self.tokenizer.stop_ids]
        holdable = [word for word in words if not any(token in word for token in control)]
        self.derivation = Derivation(self._render, holdable, stops)
        self.probed = probe(self.tokenizer, source, self._render, self.derivation.generation_prompt)
        syntax = self.probed.format
        self.quoter = Quoter(control, syntax.tags, words)
        closes = (self.derivation.close or self.derivation.close_before_user, self.derivation.close_of_call)
        # A tag that closes what was said, or a call, is not yet the turn's end.
        own = [next((t for t in self._control_in(close) if t not in syntax.tags), None) for close in closes]
        self._close_token = own[0]
        own = [*own, *(_BESIDE[token] for token in own if token in _BESIDE)]
        own_stop = [control[token] for token in own if token in control]
        self.response_format = replace(
            syntax,
            stop_ids=tuple(dict.fromkeys([*own_stop, *self.tokenizer.stop_ids])),
            starts_in_reasoning=_opens_thought(self.derivation.generation_prompt, syntax.reasoning),
        )

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """An option that the template does not read would be ignored without a word."""
        if not options:
            return
        known = self.client_options
        if unknown := sorted(options.keys() - known.keys()):
            raise RenderError(
                f"the chat template of {self.tokenizer.name} has no option {', '.join(unknown)}; there are: "
                f"{', '.join(known) or 'none'}"
            )

    @cached_property
    def client_options(self) -> Mapping[str, Any]:
        """The variables that the template reads, but for those that the vocabulary gives; of any type."""
        given = {"template", "tokenizer", *self.tokenizer.special_tokens}
        return dict.fromkeys(sorted(variables_of(self.template) - given), Any)

    def _conversation(
        self, messages: list[Message], tools: Sequence[Tool] | None, *, generation_prompt: bool
    ) -> Iterable[Placed]:
        if not messages:
            raise RenderError("there are no messages to render")

        def render(quoted: Sequence[Message], quoted_tools: _Tools) -> str:
            return self._render(quoted, quoted_tools, generation_prompt)

        return self._placed(messages, tools, render, self.quoter.plane_for(messages, tools))

    def _continuation(
        self,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        messages: list[Message],
        tools: Sequence[Tool] | None,
        call_ids: Sequence[str | None],
    ) -> Iterable[Placed]:
        # Of a sampled call the name and the id alone matter: the synthetic turn has arguments of its own.
        sampled = self._sampled_calls(prompt_ids, completion_ids, call_ids)
        called = Message("assistant", tool_calls=tuple(ToolCall(call.name, {}, call.id) for call in sampled))
        plane = self.quoter.plane_for([called, *messages], tools)
        calls = self.quoter.quote(called, plane).tool_calls
        prompt_end, wrote = (self.tokenizer.decode(ids) for ids in (prompt_ids[-_PROMPT_END:], completion_ids))

        def render(quoted: Sequence[Message], quoted_tools: _Tools) -> str:
            return self.derivation.continuation(quoted, quoted_tools, calls, plane, prompt_end=prompt_end, wrote=wrote)

        return self._placed(messages, tools, render, plane)

    def _generation_prompt(self) -> Iterator[Piece]:
        yield Piece(self.derivation.generation_prompt, Kind.SCAFFOLD, Trust.ALL)

    def _placed(
        self, messages: Sequence[Message], tools: Sequence[Tool] | None, render: _RenderQuoted, plane: int
    ) -> Iterator[Placed]:
        """Quotes, renders, attributes, and unquotes piece by piece."""
        text, quoted, quoted_tools = self._rendered(messages, tools, render, plane)
        regions = attribute(
            text,
            quoted,
            lambda marked: unescape(render(marked, quoted_tools), plane),
            plane=plane,
            close_token=self._close_token,
            generation_prompt=self.derivation.generation_prompt,
        )
        for region in regions:
            for part in self.tokenizer.split_control(region.text):
                # Whatever is a control token now is the template's own, or a tag that an assistant may use.
                trust = Trust.ALL if part in self.tokenizer.control else Trust.NONE
                yield region.message, Piece(self.quoter.unquote(part, plane), region.kind, trust)

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[Tool] | None, render: _RenderQuoted, plane: int
    ) -> tuple[str, list[Message], _Tools]:
        """Returns what the template makes of the messages, and the messages as it saw them: quoted openly if that is as
        safe as quoting strictly."""

        def in_manner(manner: Manner) -> tuple[list[Message], _Tools]:
            quoted_tools = None if tools is None else [self.quoter.quote_tool(tool, plane, manner) for tool in tools]
            return [self.quoter.quote(message, plane, manner) for message in messages], quoted_tools

        strict, opened = in_manner(Manner.STRICT), in_manner(Manner.OPEN)
        if opened != strict:
            try:
                text, sealed = unescape(render(*opened), plane), unescape(render(*in_manner(Manner.SEALED)), plane)
            except RenderError:  # a word that is shown or sealed is beyond the template; strict quoting decides
                text, sealed = "", "-"
            if text and self._control_in(text) == self._control_in(sealed):
                return text, *opened
        return unescape(render(*strict), plane), *strict

    def _control_in(self, text: str) -> list[str]:
        return [part for part in self.tokenizer.split_control(text) if part in self.tokenizer.control]

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, generation_prompt: bool
    ) -> str:
        tools, more = for_template(self.template, tools)
        try:
            return render_template(
                self.template,
                [_for_template(message, as_text=self._arguments_as_text) for message in messages],
                list(tools) if tools else None,
                add_generation_prompt=generation_prompt,
                **{**self.tokenizer.special_tokens, **more, **self.options},
            )
        except TEMPLATE_FAILURES as error:
            raise RenderError(f"the chat template refuses these messages: {error}") from error

    def _wants_arguments_as_text(self) -> bool:
        """Returns True if the template can print a call's arguments as text only; most want the value. Found by showing
        it a call each way."""
        asked = [
            Message("user", "Hello."),
            Message("assistant", "", tool_calls=(ToolCall("f", {"x": 1}, "call00000"),)),
        ]
        for as_text in (False, True):
            self._arguments_as_text = as_text
            try:
                self._render(asked, None, False)
            except RenderError:
                continue
            return as_text
        return False


def _for_template(message: Message, *, as_text: bool) -> dict[str, Any]:
    """The message in OpenAI's shape, its arguments in the form that the template can print."""
    shaped = message.to_openai()
    if shaped["content"] is None:
        shaped["content"] = ""
    for call, source in zip(shaped.get("tool_calls", ()), message.tool_calls, strict=True):
        value = source.arguments_value
        call["function"]["arguments"] = source.arguments_json if as_text or not isinstance(value, dict) else value
    return shaped


def _opens_thought(generation_prompt: str, reasoning: TaggedReasoning | None) -> bool:
    return reasoning is not None and generation_prompt.rfind(reasoning.open) > generation_prompt.rfind(reasoning.close)
