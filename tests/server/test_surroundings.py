"""The page of limits says what the tests show."""

from pathlib import Path

import pytest

from tests.server.surroundings import HOSTILE, SURROUNDINGS, Surrounding, hostile_table, surroundings_table

ROOT = Path(__file__).parents[2]


def test_the_page_holds_the_tables() -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    for printed in (surroundings_table(), hostile_table()):
        assert printed in page, "python -m tests.server.surroundings prints it"


@pytest.mark.parametrize("row", [*SURROUNDINGS, *HOSTILE], ids=lambda row: row.name.replace(" ", "-"))
def test_each_row_has_its_tests(row: Surrounding) -> None:
    assert row.tests
    for test in row.tests:
        path, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text(), test
