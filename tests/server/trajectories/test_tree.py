"""The token tree under random traffic: PREFIX and ONCE are laws of the data model, not of any client's good manners."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tickertape.renderers.messages import Message
from tickertape.server.trajectories.matching import context_digests, matches
from tickertape.server.trajectories.samples import samples
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Outcome, Turn

#: Outcomes after which an agent has an answer, which its next request can extend.
ANSWERED = {Outcome.STOP, Outcome.LENGTH, Outcome.TOOL_CALLS, Outcome.PARSE_FAILED}
IDS = st.lists(st.integers(0, 3), max_size=4)


@dataclass
class Growth:
    """One more turn: below which earlier one (or none), what it adds, how it ends."""

    below: int | None
    delta: list[int]
    completion: list[int]
    outcome: Outcome


GROWTHS = st.lists(
    st.builds(
        Growth,
        below=st.one_of(st.none(), st.integers(0, 20)),
        delta=IDS,
        completion=IDS,
        outcome=st.sampled_from(list(Outcome)),
    ),
    max_size=25,
)


@dataclass
class Grown:
    tree: SessionTree = field(default_factory=lambda: SessionTree("s"))
    turns: list[Turn] = field(default_factory=list)


def grow(growths: list[Growth]) -> Grown:
    grown = Grown()
    extendable: list[Turn] = []
    for seq, growth in enumerate(growths):
        parent = extendable[growth.below % len(extendable)] if growth.below is not None and extendable else None
        turn = Turn(
            id=str(seq),
            session_id="s",
            parent_id=parent.id if parent else None,
            seq=seq,
            created_at=0.0,
            dialect="chat",
            model="m",
            prompt_delta=np.array(growth.delta, np.int32),
            completion=np.array(growth.completion, np.int32),
            logprobs=np.arange(len(growth.completion), dtype=np.float32),
            versions=[("v", len(growth.completion))] if growth.completion else [],
            outcome=growth.outcome,
            context_digest=bytes([seq]) if growth.outcome in ANSWERED else b"",
        )
        grown.tree.add(turn, "")
        grown.turns.append(turn)
        if growth.outcome in ANSWERED:
            extendable.append(turn)
    return grown


def stream(turn: Turn, turns: list[Turn]) -> list[int]:
    before = stream(turns[int(turn.parent_id)], turns) if turn.parent_id is not None else []
    return before + turn.prompt_delta.tolist() + turn.completion.tolist()


@settings(max_examples=300, deadline=None)
@given(GROWTHS)
def test_once_every_sampled_token_is_trained_exactly_once(growths: list[Growth]) -> None:
    turns = grow(growths).turns
    trained: dict[str, int] = {}
    for sample in samples(turns):
        assert sample.token_ids.tolist() == stream(turns[int(sample.turn_ids[-1])], turns)
        at = 0
        for turn_id in sample.turn_ids:
            turn = turns[int(turn_id)]
            at += len(turn.prompt_delta)
            trained[turn_id] = trained.get(turn_id, 0) + int(sample.loss_mask[at : at + len(turn.completion)].sum())
            at += len(turn.completion)
        assert sample.loss_mask.sum() == (sample.loss_mask * ~np.isnan(sample.logprobs)).sum()
        assert sum(n for _, n in sample.versions) == len(sample.token_ids) == at
        ends = [span["end"] for span in sample.message_spans]
        assert ends == sorted(ends)
    assert trained == trained | {turn.id: len(turn.completion) for turn in turns if len(turn.completion)}


@settings(max_examples=300, deadline=None)
@given(GROWTHS, IDS)
def test_prefix_deepest_turn_is_the_longest_stream_that_the_ids_begin_with(
    growths: list[Growth], more: list[int]
) -> None:
    grown = grow(growths)
    extendable = [turn for turn in grown.turns if turn.context_digest]
    for turn in [*extendable, None]:
        ids = (stream(turn, grown.turns) if turn else []) + more
        found = grown.tree.deepest_prefix(np.array(ids, np.int32))
        streams = [stream(each, grown.turns) for each in extendable]
        longest = max((len(s) for s in streams if len(s) < len(ids) and ids[: len(s)] == s), default=None)
        assert (found.length if found else None) == longest
        if found:
            assert found.stream().tolist() == ids[: found.length]


def conversation(n: int) -> list[Message]:
    return [Message("user" if k % 2 == 0 else "assistant", f"m{k}") for k in range(n)]


def test_deepest_match_wins_and_the_latest_among_equals() -> None:
    tree = SessionTree("s")
    digests = context_digests(conversation(7))
    for seq, covered in enumerate([2, 4, 4, 2]):
        parent = None if covered == 2 else "0"
        turn = Turn(
            id=str(seq), session_id="s", parent_id=parent, seq=seq, created_at=0.0, dialect="chat", model="m",
            outcome=Outcome.STOP, context_digest=digests[covered - 1],
        )  # fmt: skip
        tree.add(turn, "")
    assert [(node.id, covered) for node, covered in matches(tree, digests)] == [("2", 4), ("1", 4), ("3", 2), ("0", 2)]
    assert list(matches(tree, digests[:2])) == [], "a turn that covers everything leaves nothing to answer"


def test_messages_that_do_not_count_are_new_ones_behind_a_turn() -> None:
    tree = SessionTree("s")
    history = conversation(4)
    reminder = Message("user", "<system-reminder>Be brief.</system-reminder>")
    digests = context_digests(history)
    turn = Turn(
        id="0", session_id="s", created_at=0.0, dialect="chat", model="m", outcome=Outcome.STOP,
        context_digest=digests[-1],
    )  # fmt: skip
    tree.add(turn, "")
    for asked, covered in [
        ([*history, reminder], 4),
        ([*history, reminder, reminder, Message("user", "more")], 4),
        ([history[0], reminder, *history[1:], Message("user", "more")], 5),
    ]:
        assert [found for _, found in matches(tree, context_digests(asked))] == [covered]


@given(growths=GROWTHS, most=st.integers(1, 12))
def test_the_end_of_a_turns_prompt_is_the_end_of_what_it_was_sampled_from(growths: list[Growth], most: int) -> None:
    tree = grow(growths).tree
    nodes = list(tree.roots)
    while nodes:
        node = nodes.pop()
        prompt = node.stream().tolist()
        del prompt[len(prompt) - len(node.completion) :]
        assert node.prompt_end(most) == prompt[-most:]
        nodes += node.children
