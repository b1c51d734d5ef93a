"""The end of a turn that calls tools, in what a template prints.

Between a call's last argument and the first result a template prints the rest of the call, the turn's close and the
result's opening, in one string. The model samples the first part itself; the bridge has to supply the others. Where
they part is shown by what closes a turn without calls, by the tokens at which the model stops, or by how the template
prints the same turn with nothing after it.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

#: What looks like a token of its own, whether the vocabulary at hand has it or not.
_TAG = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]|\[\|\w+\|\]")


def close_of_call(gap: str, alone: str, plain: str, plain_alone: str, opening: str, stops: Sequence[str]) -> int | None:
    """Finds where in ``gap`` the turn's close starts; ``None`` where nothing shows it.

    Args:
        gap: the text between the last argument and the first result.
        alone: the text after the last argument where the conversation ends with the call.
        plain: the text after an answer without calls that a user message follows.
        plain_alone: the same where the conversation ends with the answer.
        opening: the generation prompt.
        stops: the texts of the model's stop tokens.
    """
    close = _common(plain, plain_alone)
    if close.strip() and close in gap:
        return gap.index(close)
    for tag in _closing_tags(plain, close):
        if tag.strip() in gap:
            return gap.index(tag) if tag in gap else gap.index(tag.strip())
    found = [gap.index(stop) for stop in stops if stop in gap]
    if found:
        return min(found)
    common = _common(gap, alone)
    first = _TAG.search(opening)
    if first is not None and first.group() in common:  # the next turn opens, and nothing closed this one
        return common.index(first.group())
    last = list(_TAG.finditer(common))[-1:]
    if last and last[0].end() == len(common):
        return last[0].end() if last[0].group().startswith("</") else last[0].start()
    return None


def _closing_tags(plain: str, close: str) -> list[str]:
    """The tags that close a turn without calls, the first with the white space before it."""
    tags = list(_TAG.finditer(close)) or list(_TAG.finditer(plain))[:1]
    leading = len(plain) - len(plain.lstrip())
    return [plain[:leading] * (tag.start() == leading) + tag.group() for tag in tags]


def _common(first: str, second: str) -> str:
    """The beginning that two texts share, without a tag cut in the middle."""
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    shared = first[: sum(1 for _ in alike)]
    for tag in _TAG.finditer(first):
        if tag.start() < len(shared) < tag.end():
            return shared[: tag.start()]
    return shared
