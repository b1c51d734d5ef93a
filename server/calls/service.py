"""The running proxy: everything that requests need, put together once."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry
from starlette.requests import Request

from tickertape.clients.engines.engine import EngineInfo
from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.clients.engines.http import CONNECT_TIMEOUT
from tickertape.server.auth.browsers import Browsers
from tickertape.server.auth.keyring import Keyring
from tickertape.server.calls.in_flight import InFlightCalls
from tickertape.server.calls.limits import Admission, CallLimits, Refusals
from tickertape.server.calls.recognition import Recognition
from tickertape.server.errors import ContextLengthExceeded, InvalidRequest, ModelNotFound, NoEngineYet
from tickertape.server.http.body_limit import Bodies
from tickertape.server.policy.sharing import SharedPolicy
from tickertape.server.settings import Images, UnknownFields
from tickertape.server.store.age_clock import AgeClock
from tickertape.server.store.retention_cycle import Keeper
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.turn import Outcome
from tickertape.server.turns.turns import Turns

if TYPE_CHECKING:
    from tickertape.server.observing.tracing import Tracing

ANY_MODEL = "*"
#: Bytes of a request for each token that the model can read, beyond those of its other fields. Text has about four, and
#: what is long beside it (escapes, schemas, thoughts that the model does not read again) not many times as much.
_BYTES_OF_A_TOKEN = 64
_FREE_BYTES = 2**20


class Service:
    """The parts that the routes work with.

    Args:
        turns: takes turns.
        served_names: names under which the model is served beside the engines' own; ``"*"`` accepts any.
        unknown_fields: what becomes of fields outside a protocol.
        in_flight: calls under way, which retries join.
        keyring: tells who calls.
        heartbeat: seconds of silence after which a stream gets a sign of life.
        bodies: what requests' bodies may take up.
        limits: how much is taken on at once.
        connect_timeout: seconds that a connection to an engine may take which is added later.
        browsers: what is done about web pages where no key is asked for.
        images: what becomes of parts of messages that the model cannot read.
    """

    def __init__(
        self,
        turns: Turns,
        served_names: Sequence[str],
        unknown_fields: UnknownFields,
        in_flight: InFlightCalls,
        keyring: Keyring,
        heartbeat: float = 15.0,
        bodies: Bodies | None = None,
        limits: CallLimits | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        browsers: Browsers | None = None,
        images: Images = Images.PLACEHOLDER,
    ) -> None:
        self.turns = turns
        self.in_flight = in_flight
        self.keyring = keyring
        self.browsers = browsers or Browsers()
        self.heartbeat = heartbeat
        self.bodies = bodies or Bodies()
        self.admission = Admission(turns.pool, limits or CallLimits())
        self.refusals = Refusals(self._record_refused)
        self.connect_timeout = connect_timeout
        self.is_stopping = False
        """True if the server is being stopped."""
        self.recognition = Recognition()
        self.shared_policy = SharedPolicy(turns.policy, turns.store)
        self.tracing: Tracing | None = None
        self.registry = CollectorRegistry()
        """Its metrics; those of the whole server once it is assembled."""
        self.started_at = int(time.time())
        self.ages = AgeClock()
        self.keeper = Keeper(turns.store, self.ages, self.forget)
        self._served_names = [name for name in served_names if name != ANY_MODEL]
        self._accepts_any = ANY_MODEL in served_names
        self._unknown_fields = unknown_fields
        self._images = images

    def recognise(self, client: bytes, asked: Asked) -> str | None:
        """Returns the session of the conversation that a request without an id continues. ``None`` if none is
        remembered here, or it is closed: a client that knows of no sessions cannot open another one."""
        found = self.recognition.find(client, asked.digests)
        return None if found is not None and self.turns.store.is_closed(found) else found

    def forget(self, session_ids: Collection[str]) -> None:
        """Sessions were taken off the tape; their ids may be used anew."""
        self.in_flight.forget(set(session_ids))
        for session_id in session_ids:
            self.turns.forget(session_id)

    async def _record_refused(self, session_id: str, dialect: str, why: str) -> None:
        await self.turns.record(session_id, dialect, "", Outcome.REJECTED, error=why)

    @property
    def info(self) -> EngineInfo:
        """Returns what the engines have in common.

        Raises:
            NoEngineYet: none has answered yet.
        """
        try:
            return self.turns.info
        except EngineUnavailable as error:
            raise NoEngineYet(str(error)) from error

    @property
    def model_names(self) -> list[str]:
        """Names under which the model is served, the engines' own first; raises as :attr:`info`."""
        return [*dict.fromkeys([self.info.model, *self._served_names])]

    def check_model(self, name: str) -> None:
        """
        Raises:
            ModelNotFound: no model of that name is served.
            NoEngineYet: it is not known which is.
        """
        names = self.model_names
        if not self._accepts_any and name not in names and name not in self.info.adapters:
            raise ModelNotFound(
                f"the model {name!r} is not served; there is: {', '.join(names)} (--served-model-name NAME adds a name,"
                " '*' accepts any)"
            )

    def check_size(self, body: bytes) -> None:
        """Raises :class:`ContextLengthExceeded` for a request that is too long for the model by any estimate: before
        it is read, which takes time, not only its own."""
        context = self.info.max_context
        if len(body) > _FREE_BYTES + context * _BYTES_OF_A_TOKEN:
            raise ContextLengthExceeded(
                f"the request has {len(body)} bytes, more than {_BYTES_OF_A_TOKEN} for each token", most=context
            )

    def check_readable(self, unreadable: Mapping[str, str]) -> None:
        """Raises :class:`InvalidRequest` for parts of messages that no model here reads, if they are to be refused."""
        if unreadable and self._images is Images.REFUSE:
            place, kind = next(iter(unreadable.items()))
            raise InvalidRequest(
                f"{place} is of type {kind!r}, and the served model reads text only (the server was started with"
                " --images refuse)",
                param=place,
                code="unsupported_value",
            )

    def check_ignored(self, fields: Sequence[str]) -> None:
        """Raises :class:`InvalidRequest` for fields that are not used, if they are to be refused."""
        if fields and self._unknown_fields is UnknownFields.REJECT:
            text = f"fields that change nothing here: {', '.join(fields)}"
            raise InvalidRequest(text, param=fields[0], code="unknown_field")


def service_of(request: Request) -> Service:
    """The service of the app that got the request."""
    return cast("Service", request.app.state.service)
