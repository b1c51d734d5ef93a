"""Stamps of policy versions: a run for each, over exactly the tokens that it sampled."""

from hypothesis import given
from hypothesis import strategies as st

from tickertape.clients.engines.engine import Chunk
from tickertape.server.turns.completion import Completion

VERSIONS = st.sampled_from([None, "a", "b"])


def runs(versions: list[str | None]) -> list[tuple[str | None, int]]:
    found: list[tuple[str | None, int]] = []
    for version in versions:
        n = found.pop()[1] if found and found[-1][0] == version else 0
        found.append((version, n + 1))
    return found


@given(
    requests=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 4), VERSIONS, VERSIONS), max_size=5),  # chunks: tokens, told, set
            st.one_of(st.none(), st.lists(VERSIONS, min_size=20, max_size=20)),  # by token, told at the end
        ),
        max_size=3,
    )
)
def test_what_an_engine_says_of_a_token_goes_first_then_what_was_set(
    requests: list[tuple[list[tuple[int, str | None, str | None]], list[str | None] | None]],
) -> None:
    generation, expected = Completion(0), []
    for chunks, told_at_the_end in requests:
        generation.begin_request()
        stamped: list[str | None] = []
        for n_tokens, told, given_version in chunks:
            generation.take(Chunk([7] * n_tokens, [-1.0] * n_tokens, policy_version=told), given_version)
            stamped += [told or given_version] * n_tokens
        if told_at_the_end is not None:
            by_token = told_at_the_end[: len(stamped)]
            generation.take(Chunk([], [], version_spans=runs(by_token)))
            stamped = [told or known for told, known in zip(by_token, stamped, strict=True)]
        expected += stamped
    assert generation.versions == runs(expected)
