"""Running the server: in the foreground, or behind a ``with`` for demos and tests."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any, cast

import uvicorn
import uvloop

from tickertape.renderers.template.renderer import TemplateRenderer
from tickertape.server.calls.service import Service
from tickertape.server.http.connections import Connection, ConnectionLimits, TooManyConnections, watch_peers
from tickertape.server.observing.logs import LogFormat, LogLevel, configure_logging
from tickertape.server.serving.app import create_app
from tickertape.server.serving.assembly import Parts, make_parts, running_service
from tickertape.server.serving.front import refusing
from tickertape.server.settings import Settings

#: uvicorn's ticks of a tenth of a second between two looks at connections.
_TICKS = 5
#: Seconds that calls get, after they were ordered to end, to put their turns on tape and to tell their clients.
_LAST_WORDS = 0.8

Say = Callable[[str], None]

#: A turn makes thousands of objects and few cycles: with Python's own thresholds collections were 9% of its CPU time.
_COLLECT_AFTER = (20_000, 20, 50)

_log = logging.getLogger("tickertape")


class PortInUse(OSError):
    """The address cannot be listened on."""


def serve_forever(settings: Settings, *, say: Say) -> None:
    """Serves until SIGTERM or SIGINT. Raises what :func:`make_parts` and :func:`running_service` raise, and
    :class:`PortInUse`."""
    # Until calls can be under way. Process 1 of a container gets no signal that it has no handler for.
    signal.signal(signal.SIGTERM, _leave)
    level = settings.log_level
    if settings.quiet and level in (LogLevel.DEBUG, LogLevel.INFO):
        level = LogLevel.WARNING
    configure_logging(settings.log_format, level, access=settings.access_log and not settings.quiet)
    if settings.log_format is LogFormat.JSON or settings.quiet:
        say = _log.info
    with _listen(settings) as listening:
        parts = make_parts(settings, say=say)
        _allow_files(2 * settings.max_connections, say)
        _tell_choice(parts, say)
        host, port = listening.getsockname()[:2]

        def on_ready(server: _Server, service: Service) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, server.stop)
            for member in service.turns.pool.members.values():
                if member.info is None:  # of one that is ready the log has said so
                    say(
                        f"engine    {member.name} is {member.state}: {member.reason}; it joins when it answers, until "
                        "then calls get a 503"
                    )
            say(f"tape      {service.turns.store.path}")
            gc.freeze()  # modules, vocabularies, routes: for as long as it serves, and long to look through
            gc.set_threshold(*_COLLECT_AFTER)
            say(f"listening on {_url(host, port)}  (base_url for agents: {_url(_seen_from_outside(host), port)}/v1)")

        uvloop.run(_serve(settings, parts, listening, on_ready))


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _seen_from_outside(host: str) -> str:
    """Returns the host by which an agent elsewhere can call: where all addresses are listened on, none of them is
    one."""
    return socket.gethostname() if ip_address(host).is_unspecified else host


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
    parts = parts or make_parts(settings, say=say)
    listening = _listen(settings)
    _tell_choice(parts, say)
    started: list[_Server] = []
    failure: list[Exception] = []
    settled = threading.Event()

    def on_ready(server: _Server, _service: Service) -> None:
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
        started[0].stop()
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn's, which looks after connections and ends in time.

    Args:
        config: uvicorn's.
        service: what is served.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def stop(self) -> None:
        """Accepts nothing more, and lets calls end within the grace period; called again, ends them at once."""
        self._service.is_stopping = True
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.look(now)
        return await super().on_tick(counter)

    async def end_calls(self) -> None:
        """Ends what outlasted the grace period. Every call puts its turn on tape and tells its client, unless that one
        does not read."""
        tasks = self.server_state.tasks
        await _cancelled([task for task in tasks if not task.cancelling()], tasks)
        await self._service.in_flight.ended()
        await _cancelled(tasks, tasks)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise a signal again when it has ended, before the tape is closed: signals are ours."""
        yield


async def _serve(
    settings: Settings, parts: Parts, listening: socket.socket, on_ready: "Callable[[_Server, Service], None]"
) -> None:
    """Starts engine and tape, serves, and closes them when every call has left its turn."""
    async with running_service(settings, parts) as service:
        limits = ConnectionLimits(settings.max_connections, settings.request_timeout, settings.send_timeout)
        refuse = refusing(TooManyConnections(f"there are {settings.max_connections} connections, the most served"))
        config = uvicorn.Config(
            create_app(service),
            http=cast("Any", partial(Connection, limits=limits, refuse=refuse)),  # a class, to uvicorn
            ws="none",
            proxy_headers=False,  # nothing here is judged by a client's address or scheme
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=settings.grace,
            timeout_keep_alive=settings.keep_alive,
            backlog=settings.listen_backlog,
        )
        server = _Server(config, service)
        on_ready(server, service)
        await server.serve(sockets=[listening])
        await server.end_calls()


async def _cancelled(tasks: Collection[asyncio.Task[None]], waited_for: Collection[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
    if waited_for:
        await asyncio.wait(list(waited_for), timeout=_LAST_WORDS)


def _listen(settings: Settings) -> socket.socket:
    """Binds before anything slow happens, so that a taken port is reported at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise PortInUse(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    watch_peers(listening, settings.send_timeout)
    listening.listen(settings.listen_backlog)
    return listening


def _allow_files(number: int, say: Say) -> None:
    """Raises the number of files that this process may open, as far as it may: a call takes up a connection of its
    client's and one to an engine. By default it is 1,024 on many systems."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= number:
        return
    allowed = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if allowed < number:
        say(f"files     {allowed} may be open, which is few for max_connections: raise the limit (ulimit -n)")


def _tell_choice(parts: Parts, say: Say) -> None:
    say(f"renderer  {parts.choice.renderer.name}: {parts.choice.reason}")
    if parts.choice.renderer.name == TemplateRenderer.name:
        for line in parts.choice.disagreements:
            say(f"          not {line}")
