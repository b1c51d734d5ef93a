"""Whatever a model samples: nothing raises, nothing is lost, every call has a status, and streaming reads it alike.

``pytest -m slow tests/renderers/test_mutated_completions.py --mutations 100000`` is the evidence in docs/renderers.md.
"""

import re
from collections import Counter

import pytest

from tests.renderers.answers import TOOLS
from tests.renderers.mutations import Mutator
from tests.renderers.strategies import slow
from tests.renderers.subjects import SUBJECTS, Subject
from tickertape.renderers.prompt import CallStatus, ParsedResponse

_EACH = pytest.mark.parametrize("subject", SUBJECTS, indirect=True)


@_EACH
def test_no_mutated_completion_raises_or_loses_text(subject: Subject) -> None:
    _check_mutations(subject, seeds=range(60))


@slow
@_EACH
def test_no_mutated_completion_raises_or_loses_text_thoroughly(subject: Subject, pytestconfig: pytest.Config) -> None:
    _check_mutations(subject, seeds=range(60, 60 + pytestconfig.getoption("mutations")))


def _check_mutations(subject: Subject, seeds: range) -> None:
    mutated = Mutator(subject)
    renderer, tokenizer = subject.exact, subject.tokenizer
    stops = frozenset(renderer.get_stop_sequences())
    own_words = _own_words(subject)
    for seed in seeds:
        ids = mutated(seed)
        parsed = renderer.parse_response(ids, TOOLS)
        stop = next((k for k, i in enumerate(ids) if i in stops), len(ids))
        assert parsed.complete == (stop < len(ids)), seed
        assert list(parsed.rest) == ids[stop + 1 :], seed
        _check_calls(parsed, seed)
        said = [parsed.reasoning or "", parsed.content, *(call.raw for call in parsed.calls if call.call)]
        wrote = tokenizer.decode(ids[:stop])
        assert _letters("\n".join(said), own_words) == _letters(wrote, own_words), (seed, wrote)


def _check_calls(parsed: ParsedResponse, seed: int) -> None:
    assert [call.call for call in parsed.calls if call.call] == list(parsed.tool_calls), seed
    for call in parsed.calls:
        if call.call is None:
            assert call.status is not CallStatus.OK, seed
            assert call.raw.strip() in parsed.content, seed
        else:
            assert call.call.name, seed


def _own_words(subject: Subject) -> re.Pattern[str]:
    """What of a completion is nobody's words: the format's tags, and white space, which formats pad with."""
    tags = sorted(map(re.escape, subject.exact.response_format.tags), key=len, reverse=True)
    return re.compile("|".join([*subject.own_words, *tags, r"\s"]))


def _letters(text: str, own_words: re.Pattern[str]) -> Counter[str]:
    return Counter(own_words.sub("", text))
