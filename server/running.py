"""Running the server: in the foreground, or behind a ``with`` for demos and tests."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from tickertape.clients.engines.engine import EngineInfo
from tickertape.renderers.template import TemplateRenderer
from tickertape.server.app import create_app
from tickertape.server.assembly import Parts, make_parts
from tickertape.server.settings import Settings

#: Seconds that running calls get to finish when the server is told to stop; then they are recorded as aborted.
_GRACE = 20

Say = Callable[[str], None]


class PortInUse(OSError):
    """The address cannot be listened on."""


def serve_forever(settings: Settings, *, say: Say) -> None:
    """Serves until a signal comes. Raises what :func:`make_parts` raises, and :class:`PortInUse`."""
    listening = _listen(settings)
    parts = make_parts(settings, say=say)
    _tell_choice(parts, say)
    host, port = listening.getsockname()[:2]

    def on_ready(info: EngineInfo) -> None:
        say(f"engine    {info.name} at {info.url}: {info.model}, {info.max_context} tokens of context")
        say(f"tape      {settings.db}")
        say(f"listening on http://{host}:{port}  (base_url for agents: http://{host}:{port}/v1)")

    failure: list[BaseException] = []
    server = _server(settings, parts, on_ready, failure)
    server.run(sockets=[listening])
    if failure:
        raise failure[0]


@contextmanager
def serving(settings: Settings, *, say: Say = lambda _: None, parts: Parts | None = None) -> Iterator[str]:
    """Serves on a thread while the block runs; yields the base URL, without ``/v1``.

    Args:
        settings: see :class:`Settings`.
        say: gets the lines that the command line would print.
        parts: engine and renderer, made from ``settings`` if not given.
    """
    listening = _listen(settings)
    parts = parts or make_parts(settings, say=say)
    _tell_choice(parts, say)
    ready = threading.Event()
    failure: list[BaseException] = []
    server = _server(settings, parts, lambda _: ready.set(), failure)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="tickertape", daemon=True)
    thread.start()
    while not ready.wait(0.05):
        if not thread.is_alive():
            raise failure[0] if failure else RuntimeError("the server ended before it was ready")
    try:
        yield "http://{}:{}".format(*listening.getsockname()[:2])
    finally:
        server.should_exit = True
        thread.join()


def _server(
    settings: Settings, parts: Parts, on_ready: Callable[[EngineInfo], None], failure: list[BaseException]
) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(settings, parts, on_ready=on_ready, on_failure=failure.append),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    return uvicorn.Server(config)


def _listen(settings: Settings) -> socket.socket:
    """Binds before anything slow happens, so that a taken port is told at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise PortInUse(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listening.listen(2048)
    return listening


def _tell_choice(parts: Parts, say: Say) -> None:
    say(f"renderer  {parts.choice.renderer.name}: {parts.choice.reason}")
    if parts.choice.renderer.name == TemplateRenderer.name:
        for line in parts.choice.disagreements:
            say(f"          not {line}")
