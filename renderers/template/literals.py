"""Which words a chat template looks for in messages.

Templates test and cut texts by words of their own: ``'</think>' in content``, ``content.split('<|think_off|>')``,
``'<' in value``. The words are string literals of the template's source.
"""

from collections.abc import Iterator
from itertools import pairwise

import jinja2

_LONGEST = 40
#: What stands before a literal that is looked for (an argument, a comparison, a variable's value) …
_BEFORE = {"(", ",", "==", "!=", "=", "in", "["}
#: … or after it.
_BEHIND = {"in", "not", "==", "!="}
#: Filters that make a template escape ``<`` wherever a text meets one of theirs.
_ESCAPES = {"safe", "escape", "e", "forceescape"}


def looked_for(template: str) -> frozenset[str]:
    """The literals of a Jinja template that it compares messages with, or takes them apart by; prose left out.

    Raises:
        jinja2.TemplateSyntaxError: it is no template.
    """
    return frozenset(literal for literal in _literals(template) if literal.strip() and len(literal) <= _LONGEST)


def _literals(template: str) -> Iterator[str]:
    tokens = [(kind, value) for _, kind, value in jinja2.Environment().lex(template) if kind != "whitespace"]  # noqa: S701
    ends = [("", "")]
    for (_, before), (kind, value), (_, behind) in zip(ends + tokens, tokens, tokens[1:] + ends, strict=False):
        if kind == "string" and (before in _BEFORE or behind in _BEHIND):
            yield value[1:-1].encode("latin-1", "backslashreplace").decode("unicode-escape")
    if any(bar == ("operator", "|") and name[1] in _ESCAPES for bar, name in pairwise(tokens)):
        yield "<"
