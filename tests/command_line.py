"""The command line in this process: one of its own would spend most of a second on its start."""

import logging
import signal

from click.testing import Result
from typer.testing import CliRunner

from tickertape.server.commands.cli import app


def tickertape(*arguments: str) -> Result:
    """Runs a command; what ``serve`` changes of this process is put back."""
    handlers, on_term = logging.getLogger().handlers, signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(app, arguments)
    finally:
        logging.getLogger().handlers = handlers
        signal.signal(signal.SIGTERM, on_term)
