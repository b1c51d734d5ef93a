"""DURABLE, PREFIX, VERBATIM, ONCE under kill -9: `python -m tests.durability.kills` with few kills."""

from pathlib import Path

import pytest

from tests.durability.kills import Plan, play


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_what_was_heard_whole_is_on_tape_whenever_the_server_is_killed(store: str, tmp_path: Path) -> None:
    result = play(Plan(kills=4, agents=24, store=store), tmp_path)
    assert result.findings == []
    assert len(result.ledger.heard) > 24
    assert any(each.tries > 1 for each in result.ledger.heard)


@pytest.mark.slow
def test_what_was_heard_whole_is_on_tape_when_the_database_is_killed_too(tmp_path: Path) -> None:
    result = play(Plan(kills=3, agents=24, store="postgresql", postgres_every=1), tmp_path)
    assert result.findings == []
    assert len(result.postgres_starts) >= 3


@pytest.mark.slow
def test_sessions_go_on_at_either_of_two_servers_that_are_killed_in_turn(tmp_path: Path) -> None:
    result = play(Plan(kills=4, agents=24, store="postgresql", replicas=2), tmp_path)
    assert result.findings == []
    assert len(result.ledger.heard) > 24
