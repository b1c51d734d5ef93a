"""Ten times the capacity, as ``benchmarks/overload.py`` has it, for a few seconds."""

import pytest

from benchmarks.overload import Plan, run, show
from benchmarks.proxy import default_tokenizer


@pytest.mark.slow
def test_overload_refuses_at_once_harms_nobody_and_ends_at_once() -> None:
    result = run(Plan(seconds=8, times=10, calm=3), default_tokenizer())
    show(result, markdown=False)
    assert not result.failures
