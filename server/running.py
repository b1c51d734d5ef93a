"""Running the server: in the foreground, or behind a ``with`` for demos and tests."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
import uvloop

from tickertape.clients.engines.pool import Member
from tickertape.renderers.template import TemplateRenderer
from tickertape.server.app import create_app
from tickertape.server.assembly import Parts, make_parts, running_service
from tickertape.server.http_protocol import BoundedProtocol
from tickertape.server.observing.logs import LogFormat, configure_logging
from tickertape.server.service import Service
from tickertape.server.settings import Settings

Say = Callable[[str], None]

_log = logging.getLogger("tickertape")


class PortInUse(OSError):
    """The address cannot be listened on."""


def serve_forever(settings: Settings, *, say: Say) -> None:
    """Serves until SIGTERM or SIGINT. Raises what :func:`make_parts` and :func:`running_service` raise, and
    :class:`PortInUse`."""
    # Until calls can be under way. Process 1 of a container gets no signal that it has no handler for.
    signal.signal(signal.SIGTERM, _leave)
    configure_logging(settings.log_format, settings.log_level, access=settings.access_log)
    if settings.log_format is LogFormat.JSON:
        say = _log.info
    listening = _listen(settings)
    parts = make_parts(settings, say=say)
    _tell_choice(parts, say)
    host, port = listening.getsockname()[:2]

    def on_ready(server: uvicorn.Server, service: Service) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
        for member in service.turns.pool.members.values():
            say(f"engine    {member.name} {_engine_line(member)}")
        say(f"tape      {service.turns.store.path}")
        for line in service.found_on_tape:
            say(f"          {line}")
        say(f"listening on http://{host}:{port}  (base_url for agents: http://{host}:{port}/v1)")

    uvloop.run(_serve(settings, parts, listening, on_ready))


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


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
    started: list[uvicorn.Server] = []
    failure: list[Exception] = []
    settled = threading.Event()

    def on_ready(server: uvicorn.Server, _service: Service) -> None:
        started.append(server)
        settled.set()

    def run() -> None:
        try:
            uvloop.run(_serve(settings, parts, listening, on_ready))
        except Exception as error:  # noqa: BLE001  (raised again where the block is entered)
            failure.append(error)
        finally:
            settled.set()

    thread = threading.Thread(target=run, name="tickertape", daemon=True)
    thread.start()
    settled.wait()
    if failure:
        listening.close()
        raise failure[0]
    try:
        yield "http://{}:{}".format(*listening.getsockname()[:2])
    finally:
        started[0].should_exit = True
        thread.join()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise a signal again when it has ended, before the tape is closed: signals are ours."""
        yield


async def _serve(
    settings: Settings, parts: Parts, listening: socket.socket, on_ready: Callable[[uvicorn.Server, Service], None]
) -> None:
    """Starts engine and tape, serves, and closes them when every call has left its turn."""
    async with running_service(settings, parts) as service:
        config = uvicorn.Config(
            create_app(service),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=settings.grace,
        )
        server = _Server(config)
        on_ready(server, service)
        await server.serve(sockets=[listening])
        # Calls that outlasted the grace period were cancelled; they still put their turns on tape.
        await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


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


def _engine_line(member: Member) -> str:
    info = member.info
    if info is None:
        return f"at {member.url}: {member.reason}; it is tried again"
    asked = f", asked through {info.endpoint}" if info.endpoint else ""
    return f"at {info.url}: {info.model}, {info.max_context} tokens of context{asked}"


def _tell_choice(parts: Parts, say: Say) -> None:
    say(f"renderer  {parts.choice.renderer.name}: {parts.choice.reason}")
    if parts.choice.renderer.name == TemplateRenderer.name:
        for line in parts.choice.disagreements:
            say(f"          not {line}")
