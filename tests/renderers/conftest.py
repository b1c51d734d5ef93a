"""Fixtures of the renderer tests."""

from collections.abc import Iterator

import pytest

from tests.renderers.subjects import KINDS, MODELS, SUBJECTS, Subject, on_that_day
from tickertape.renderers.renderer import Renderer


@pytest.fixture(scope="session", autouse=True)
def _one_day() -> Iterator[None]:
    """Templates that print today's date print the same one in all tests, also at midnight."""
    with on_that_day():
        yield


@pytest.fixture(scope="session", params=MODELS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """A model: each of ``MODELS`` in turn, or those that a test names with ``indirect=True``."""
    named = SUBJECTS[request.param]
    assert named.tokenizer  # read here, where a vocabulary that cannot be fetched skips the test
    return named


@pytest.fixture(scope="session", params=KINDS)
def renderer(request: pytest.FixtureRequest, subject: Subject) -> Renderer:
    """The model's renderer of either kind: its family, and its own template."""
    return subject.renderers[request.param]
