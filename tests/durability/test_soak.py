"""A short soak, of the same code as `python -m benchmarks.soak`."""

from pathlib import Path

import pytest

from benchmarks.soak import Plan, play


@pytest.mark.slow
def test_server_does_not_grow_while_sessions_churn(tmp_path: Path) -> None:
    # What fills up at first takes longer than this run: only what leaks quickly shows in the memory here.
    soak = play(Plan(minutes=0.3, sessions=60, rate=30, tolerance=0.15), tmp_path)
    assert soak.findings() == []
    assert soak.done["turns"] > 100
    assert soak.done["samples"] > 0
