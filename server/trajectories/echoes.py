"""Answers with calls that no client can run, as clients send them back: found where they stand.

:mod:`~tickertape.server.trajectories.broken_answers` says what they are.
"""

from dataclasses import replace

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
    has_echo = False
    for index, message in enumerate(asked.messages):
        if has_echo:  # it stands after another conversation than the client's words are
            (digests[index],) = context_digests([message], asked.policy, after=digests[index - 1], first=index)
        if index == 0 or message.role != "assistant" or tree.ending_with(digests[index]):
            continue
        latest_first = reversed(tree.broken_answers.get(digests[index - 1].hex(), ()))
        answer = next((each for each in latest_first if each.is_echoed_by(message, asked.policy, index)), None)
        if answer is not None:
            digests[index], has_echo = answer.context_digest, True
    return replace(asked, digests=digests) if has_echo else asked
