"""Answers with calls that no client can run, as clients send them back: found where they stand.

:mod:`~tickertape.server.trajectories.broken_answers` says what they are.
"""

from collections.abc import Iterator
from dataclasses import replace

from tickertape.server.trajectories.broken_answers import BrokenAnswer
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import context_digests
from tickertape.server.trajectories.normalising import MatchPolicy, default, loose
from tickertape.server.trajectories.tree import SessionTree

#: Policies under which what clients are known to change makes no difference.
_FORGIVING: tuple[MatchPolicy, ...] = (default, loose)


def with_echoes(tree: SessionTree, asked: Asked) -> Asked:
    """A request, its digests those of what the model really said where the client could not repeat it."""
    if not tree.broken_answers or asked.policy not in _FORGIVING:
        return asked
    digests = list(asked.digests)
    for index, message in enumerate(asked.messages):
        if index == 0 or message.role != "assistant" or tree.ending_with(digests[index]):
            continue
        for answer in _answers_to(tree, digests[index - 1]):
            if answer.is_echoed_by(message, asked.policy, index):
                rest = asked.messages[index + 1 :]
                after = answer.context_digest
                digests[index:] = [after, *context_digests(rest, asked.policy, after=after, first=index + 1)]
                break
    return replace(asked, digests=digests)


def _answers_to(tree: SessionTree, request_digest: bytes) -> Iterator[BrokenAnswer]:
    """The latest first."""
    known = tree.broken_answers.get(request_digest.hex(), ())
    return reversed(known)
