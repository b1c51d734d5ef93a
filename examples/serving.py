"""Where the examples find a server: the one that is named, else one of their own around the embedded model."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tickertape.server.serving.running import serving
from tickertape.server.settings import Settings


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL of a server that is running while the block does."""
    if url is not None:
        yield url
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Settings(port=0, db=Path(folder) / "tape.db", context=4096), say=print) as own,
    ):
        yield own


def main(run: Callable[[str], None]) -> None:
    """Runs an example on the server of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", help="a running server; without it, one is started around the embedded model")
    with server(parser.parse_args().url) as url:
        run(url)
