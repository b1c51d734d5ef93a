"""Samples by the trainer's choice: ONCE holds for what is wanted, cuts are said, columns and objects agree."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.trajectories.test_tree import GROWTHS, Growth, grow, stream
from tickertape.clients.samples import samples_of
from tickertape.server.trajectories.columns import SCHEMA, SessionFacts, batch
from tickertape.server.trajectories.options import Cut, OptionError, SampleOptions, version_number
from tickertape.server.trajectories.paths import LeftOut, TurnTokens, plan
from tickertape.server.trajectories.samples import samples
from tickertape.server.trajectories.statistics import statistics
from tickertape.server.trajectories.turn import Outcome, Turn

OPTIONS = st.builds(
    SampleOptions,
    per_turn=st.booleans(),
    max_length=st.none() | st.integers(1, 20),
    cut=st.sampled_from(Cut),
    outcomes=st.none() | st.sets(st.sampled_from(Outcome)).map(tuple),
    drop_outcomes=st.sets(st.sampled_from(Outcome)).map(tuple),
)


def turn(number: int, parent: int | None = None, *, delta: int = 2, sampled: int = 3, **fields: object) -> Turn:
    values: dict[str, object] = {
        "id": str(number),
        "session_id": "s",
        "parent_id": None if parent is None else str(parent),
        "seq": number,
        "created_at": 0.0,
        "dialect": "chat",
        "model": "m",
        "prompt_delta": np.full(delta, 100 + number, np.int32),
        "prompt_spans": [(-1, 0, delta)],
        "completion": np.full(sampled, 200 + number, np.int32),
        "logprobs": np.full(sampled, -0.5, np.float32),
        "versions": [("step-1", sampled)],
        "outcome": Outcome.STOP,
    }
    return Turn(**(values | fields))  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(GROWTHS, OPTIONS)
def test_once_what_is_wanted_is_trained_exactly_once_and_the_rest_is_named(
    growths: list[Growth], options: SampleOptions
) -> None:
    turns = grow(growths).turns
    left_out = plan([TurnTokens.of(each) for each in turns], options).left_out
    trained: dict[str, list[int]] = {}
    for sample in samples(turns, options):
        last = turns[int(sample.turn_ids[-1])]
        whole = stream(last, turns)
        assert sample.token_ids.tolist() == whole[: len(sample.token_ids)]
        if sample.truncated != "token":
            assert len(sample.token_ids) == len(whole)
        assert options.max_length is None or len(sample.token_ids) <= options.max_length
        assert sum(n for _, n in sample.versions) == len(sample.token_ids)
        assert sample.loss_mask.any()
        at = 0
        for turn_id in sample.turn_ids:
            each = turns[int(turn_id)]
            at += len(each.prompt_delta)
            mask = sample.loss_mask[at : at + len(each.completion)]
            at += len(each.completion)
            assert mask.all() or not mask.any(), "a mask is never divided"
            if mask.any():
                cut = len(mask) < len(each.completion)
                assert not cut or (sample.truncated == "token" and turn_id == sample.turn_ids[-1])
                trained.setdefault(turn_id, []).append(len(mask))
    assert all(len(times) == 1 for times in trained.values())
    assert trained.keys() | left_out.keys() == {each.id for each in turns if len(each.completion)}
    assert not trained.keys() & left_out.keys()
    for turn_id, reason in left_out.items():
        assert (reason is LeftOut.OUTCOME) == (not options.allows(turns[int(turn_id)].outcome))


@settings(max_examples=100, deadline=None)
@given(GROWTHS)
def test_statistics_count_what_the_samples_hold(growths: list[Growth]) -> None:
    turns = grow(growths).turns
    counted = statistics([TurnTokens.of(each) for each in turns])
    paths, alone = list(samples(turns)), list(samples(turns, SampleOptions(per_turn=True)))
    assert (counted.samples, counted.sampled_turns) == (len(paths), len(alone))
    assert counted.sample_tokens == sum(len(sample.token_ids) for sample in paths)
    assert counted.per_turn_tokens == sum(len(sample.token_ids) for sample in alone)
    assert counted.sampled_tokens == sum(int(sample.loss_mask.sum()) for sample in paths)


def test_append_only_conversation_is_one_sample_and_the_saving_is_counted() -> None:
    turns = [turn(n, n - 1 if n else None) for n in range(50)]
    (sample,) = samples(turns)
    assert len(sample.token_ids) == 250
    counted = statistics([TurnTokens.of(each) for each in turns])
    assert (counted.samples, counted.sample_tokens, counted.per_turn_tokens) == (1, 250, 5 * 50 * 51 // 2)


def test_cut_behind_a_turn_says_that_turns_are_missing() -> None:
    turns = [turn(0), turn(1, 0), turn(2, 1)]
    (sample,) = samples(turns, SampleOptions(max_length=12))
    assert (sample.turn_ids, sample.truncated, len(sample.token_ids)) == (["0", "1"], "turn", 10)
    assert sample.loss_mask.sum() == 6


def test_cut_inside_a_turn_says_so_and_shortens_all_that_is_aligned() -> None:
    turns = [turn(0), turn(1, 0, versions=[("step-1", 1), ("step-2", 2)])]
    (sample,) = samples(turns, SampleOptions(max_length=9, cut=Cut.TOKEN))
    assert (sample.truncated, len(sample.token_ids), sample.loss_mask.sum()) == ("token", 9, 5)
    assert sample.versions == [(None, 2), ("step-1", 3), (None, 2), ("step-1", 1), ("step-2", 1)]
    assert sample.message_spans[-1]["end"] == 9


def test_cut_never_leaves_a_prompt_without_its_answer() -> None:
    turns = [turn(0), turn(1, 0, delta=10)]
    (sample,) = samples(turns, SampleOptions(max_length=12, cut=Cut.TOKEN))
    assert (sample.turn_ids, sample.truncated) == (["0"], "turn")


def test_turn_of_an_outcome_that_is_dropped_is_read_and_not_trained() -> None:
    turns = [turn(0, outcome=Outcome.PARSE_FAILED), turn(1, 0), turn(2, 1, outcome=Outcome.ABORTED)]
    options = SampleOptions(drop_outcomes=(Outcome.PARSE_FAILED, Outcome.ABORTED))
    (sample,) = samples(turns, options)
    assert sample.turn_ids == ["0", "1"]
    assert sample.loss_mask.tolist() == [0] * 7 + [1] * 3
    assert not np.isnan(sample.logprobs[2:5]).any(), "its logprobs are still there"


def test_stale_turns_are_not_trained_nor_are_those_of_unknown_version() -> None:
    turns = [
        turn(0, versions=[("step-4", 3)]),
        turn(1, 0, versions=[("step-4", 1), ("step-5", 2)]),
        turn(2, 1, versions=[("step-5", 3)]),
        turn(3, 2, versions=[(None, 3)]),
    ]
    options = SampleOptions(current_version="step-7", max_staleness=2)
    assert [plan([TurnTokens.of(t) for t in turns], options).left_out.get(str(n)) for n in range(4)] == [
        "stale",
        "stale",
        None,
        "stale",
    ]
    (sample,) = samples(turns, options)
    assert sample.loss_mask.sum() == 3


@pytest.mark.parametrize(
    ("version", "number"), [("step-12", 12), ("7", 7), ("v2-step3", 3), ("main", None), (None, None)]
)
def test_version_number_is_the_last_one_in_its_name(version: str | None, number: int | None) -> None:
    assert version_number(version) == number


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_length": 0}, "max_length"),
        ({"max_staleness": 1}, "max_staleness"),
        ({"current_version": "main", "max_staleness": 1}, "current_version"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(fields: dict[str, object], param: str) -> None:
    with pytest.raises(OptionError) as caught:
        SampleOptions(**fields)  # type: ignore[arg-type]
    assert caught.value.param == param


def test_rewards_line_up_with_turns_and_tokens() -> None:
    first, second = TurnTokens.of(turn(0)), TurnTokens.of(turn(1, 0))
    first.reward, second.token_rewards = 0.5, np.array([1, 2, 3], np.float32)
    facts = SessionFacts("s", reward=2.0, group_id="g", metadata={"k": [1]})
    bare = (SessionFacts("t"), [TurnTokens.of(turn(7))])
    rewarded, other = samples_of(batch([(facts, [first, second]), bare], SampleOptions()))
    assert (rewarded.reward, rewarded.turn_rewards, rewarded.group_id) == (2.0, [0.5, None], "g")
    assert rewarded.token_rewards is not None
    assert rewarded.token_rewards.tolist() == [0] * 7 + [1, 2, 3]
    assert (rewarded.metadata, other.metadata, other.token_rewards) == ({"k": [1]}, {}, None)


def test_no_sessions_make_an_empty_batch_of_the_same_schema() -> None:
    empty = batch([], SampleOptions())
    assert (empty.num_rows, empty.schema) == (0, SCHEMA)
    empty.validate(full=True)


def test_tokens_in_a_batch_are_one_buffer_that_samples_are_views_of() -> None:
    table = batch([(SessionFacts("s"), [TurnTokens.of(turn(0))]), (SessionFacts("t"), [TurnTokens.of(turn(1))])],
                  SampleOptions())  # fmt: skip
    table.validate(full=True)
    assert table.column("token_ids").type == pa.list_(pa.int32())
    first, second = samples_of(table)
    assert first.token_ids.base is not None
    assert np.shares_memory(first.token_ids, table.column("token_ids").values.to_numpy())
    assert second.token_ids.tolist() == [101] * 2 + [201] * 3
