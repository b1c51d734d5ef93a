"""``tickertape finish``: sessions that are done, by their ids or by a filter."""

from collections.abc import Sequence

from tickertape.clients import TrajectoryClient
from tickertape.server.commands.export import filters_of
from tickertape.server.commands.output import CommandError, asking, say


def run_finish(
    url: str, named: Sequence[str], where: Sequence[str], *, reward: float | None = None, api_key: str | None = None
) -> None:
    """Finishes sessions, and says how many.

    Args:
        url: of a running server.
        named: ids of sessions.
        where: filters, ``NAME=VALUE`` each, for open sessions; instead of ids.
        reward: what each is given first; ``None`` leaves rewards as they are.
        api_key: for a server that asks for one.

    Raises:
        CommandError: there is nothing to finish, or the server refuses or cannot be reached.
    """
    if not url.startswith(("http://", "https://")):
        raise CommandError(f"{url} is no URL of a running server, such as http://127.0.0.1:8700")
    if bool(named) == bool(where):
        raise CommandError("name sessions, or give a filter: --where group_id=g; --where state=open for all")
    filters = {"state": "open", **filters_of(where)}
    with asking(url), TrajectoryClient(url, api_key=api_key) as client:
        chosen = list(named) or [session.id for session in client.sessions(**filters)]
        if not chosen:
            raise CommandError(f"{url}: there is no open session with {', '.join(where)}")
        for session_id in chosen:
            if reward is not None:
                client.reward(session_id, reward)
            client.finish(session_id)
    say(f"{len(chosen)} sessions are finished")
