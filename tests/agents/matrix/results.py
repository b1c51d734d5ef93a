"""What became of clients' runs, kept for the page that shows them: a file a run, since tests run beside each other."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickertape-tests" / "clients"


@dataclass(frozen=True)
class Ran:
    """A run that a test has looked at."""

    client: str
    version: str
    route: str
    mode: str
    """whole or streamed."""
    kind: str
    """``run``, or ``broken``: the model wrote calls that could not be run."""
    turns: int
    samples: int
    why: str = ""
    """Why there is more than one sample."""


def note(ran: Ran) -> None:
    """Keeps a run, in place of an earlier one of its kind."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    name = f"{ran.client}-{ran.route}-{ran.mode}-{ran.kind}".replace("/", "+")
    (_FOLDER / f"{name}.json").write_text(json.dumps(asdict(ran)))


def noted() -> Iterator[Ran]:
    """All runs that are kept."""
    for path in sorted(_FOLDER.glob("*.json")):
        yield Ran(**json.loads(path.read_text()))
