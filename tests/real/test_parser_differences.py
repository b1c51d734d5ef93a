"""Every difference between vLLM's parsers and ours has a name, and a reason on the page."""

import pytest

from tests.real.conftest import need
from tests.real.parser_differences import DOCUMENT, FAMILIES, REASONS, compare

pytestmark = pytest.mark.real

#: Some families of each kind of syntax; reading the vocabularies of all takes minutes.
_SOME = ("qwen3", "qwen3-coder", "kimi-k2.5", "glm-5.2")


def test_what_is_read_otherwise_than_by_vllm_has_a_name() -> None:
    need("vllm")
    for found in compare(_SOME, 40):
        assert found.unnamed == [], found.family
        assert found.alike > 0, found.family


def test_the_page_has_every_family_and_reason() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    for family in FAMILIES:
        assert f"\n| {family} | " in page
    for name, reason in REASONS.items():
        assert f"| {name} | {reason} |" in page
