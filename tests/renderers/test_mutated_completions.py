"""Whatever a model samples: nothing raises, nothing is lost, every call has a status, and streaming reads it alike.

``pytest -m slow tests/renderers/test_mutated_completions.py --mutations 100000`` is the evidence in docs/renderers.md.
"""

import re
from collections import Counter

import pytest

from tests.renderers.answers import TOOLS
from tests.renderers.mutations import Mutator
from tests.renderers.strategies import slow
from tests.renderers.subjects import Subject, every, first
from tickertape.renderers.prompt import CallStatus, ParsedResponse


@first
def test_no_mutated_completion_raises_or_loses_text(subject: Subject) -> None:
    _check_mutations(subject, seeds=range(20))


@slow
@every
def test_no_mutated_completion_raises_or_loses_text_thoroughly(subject: Subject, pytestconfig: pytest.Config) -> None:
    _check_mutations(subject, seeds=range(pytestconfig.getoption("mutations")))


def _check_mutations(subject: Subject, seeds: range) -> None:
    mutated = Mutator(subject)
    renderer, tokenizer = subject.exact, subject.tokenizer
    stops = frozenset(renderer.get_stop_sequences())
    accounted = _Accounts(subject)
    for seed in seeds:
        ids = mutated(seed)
        parsed = renderer.parse_response(ids, TOOLS)
        stop = next((k for k, i in enumerate(ids) if i in stops), len(ids))
        assert parsed.complete == (stop < len(ids)), seed
        assert list(parsed.rest) == ids[stop + 1 :], seed
        _check_calls(parsed, seed)
        said = [parsed.reasoning or "", parsed.content, *(call.raw for call in parsed.calls if call.call)]
        accounted.check("\n".join(said), tokenizer.decode(ids[:stop]), seed)


def _check_calls(parsed: ParsedResponse, seed: int) -> None:
    assert [call.call for call in parsed.calls if call.call] == list(parsed.tool_calls), seed
    for call in parsed.calls:
        if call.call is None:
            assert call.status is not CallStatus.OK, seed
            assert call.raw.strip() in parsed.content, seed
        else:
            assert call.call.name, seed


class _Accounts:
    """Every character that was sampled is told, and no other, but for white space, with which formats pad, the format's
    tags, and what it holds beside them (``own_words``)."""

    def __init__(self, subject: Subject) -> None:
        tags = sorted(map(re.escape, subject.exact.response_format.tags), key=len, reverse=True)
        self._tags = re.compile("|".join(tags)) if tags else None
        self._own_words = [re.compile(pattern) for pattern in subject.own_words]

    def check(self, told: str, wrote: str, seed: int) -> None:
        # Tags are taken out of what was written alone: words that stood around one may spell another when it is gone.
        said = self._tags.sub("\n", wrote) if self._tags else wrote
        lost, made_up = _letters(said) - _letters(told), _letters(told) - _letters(wrote)
        for pattern in self._own_words:
            for match in pattern.finditer(wrote):
                lost -= _letters(match.group())
        assert not lost, (seed, lost, wrote)
        assert not made_up, (seed, made_up, wrote)


def _letters(text: str) -> Counter[str]:
    return Counter("".join(text.split()))
