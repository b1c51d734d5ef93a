"""The table of clients in docs/agents.md, made of what the tests noted.

The tests note their runs; ``python -m tests.agents.matrix.page docs/agents.md`` writes the table in its place there.
"""

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from tests.agents.matrix.results import Ran, noted
from tickertape.server.commands.pages import replaced

_NAME = "clients: python -m tests.agents.matrix.page docs/agents.md"
_ROUTES = {
    "chat": "chat completions",
    "compatible": "chat completions (OpenAI-compatible provider)",
    "responses": "Responses",
    "messages": "Messages",
    "gemini": "Gemini",
}
_HEAD = ("| client | version | route | shown | samples a run | with broken calls |", "|---|---|---|---|---|---|")


def table(runs: Iterable[Ran]) -> str:
    """A row for each route of each client.

    Args:
        runs: in any order.
    """
    rows = []
    ordered = sorted(runs, key=lambda ran: (ran.client.lower(), list(_ROUTES).index(ran.route)))
    for (client, route), group in groupby(ordered, key=lambda ran: (ran.client, ran.route)):
        seen = list(group)
        own = [ran for ran in seen if ran.kind == "run"]
        broken = [ran for ran in seen if ran.kind == "broken"]
        modes = [mode for mode in ("whole", "streamed") if any(ran.mode == mode for ran in own)]
        turns = min((ran.turns for ran in own), default=0)
        version = max((ran.version for ran in seen), key=len)
        cells = [client, version, _ROUTES[route], f"{', '.join(modes)}; {turns} turns", _samples(own), _samples(broken)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*_HEAD, *rows])


def _samples(runs: list[Ran]) -> str:
    if not runs:
        return ""
    most = max(runs, key=lambda ran: ran.samples)
    return f"{most.samples}: {most.why}" if most.why else str(most.samples)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(replaced(path.read_text(encoding="utf-8"), _NAME, table(noted())), encoding="utf-8")
