"""Settings to a running service: engine, renderer, tape."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tickertape.clients.engines.choose import make_engine
from tickertape.clients.engines.embedded.engine import EmbeddedEngine
from tickertape.clients.engines.embedded.gguf import tokenizer_from_gguf
from tickertape.clients.engines.embedded.model_file import model_file
from tickertape.clients.engines.engine import Engine
from tickertape.clients.engines.pool import EnginePool, Silence
from tickertape.renderers.choose import Choice, choose_renderer, get_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.auth.access import Role
from tickertape.server.auth.browsers import Browsers
from tickertape.server.auth.keyring import Keyring
from tickertape.server.auth.keys import ConfiguredKey, hash_of
from tickertape.server.calls.in_flight import InFlightCalls
from tickertape.server.calls.limits import CallLimits
from tickertape.server.calls.service import Service
from tickertape.server.http.body_limit import Bodies
from tickertape.server.observing.process import loop_watched
from tickertape.server.observing.traced import tracing_to
from tickertape.server.serving.checks import EMBEDDED, check_settings
from tickertape.server.serving.exposure import check_exposure
from tickertape.server.serving.registry import make_registry
from tickertape.server.settings import Settings, SettingsError
from tickertape.server.store.durability import Durability
from tickertape.server.store.recovery import end, recover, tell
from tickertape.server.store.retention import Limits
from tickertape.server.store.retention_cycle import keep_keeping
from tickertape.server.store.store import Store
from tickertape.server.trajectories.normalising import policy_named
from tickertape.server.turns.limits import SamplingLimits, TurnLimits
from tickertape.server.turns.renderer_pool import RendererPool
from tickertape.server.turns.sampling import missing_arrays
from tickertape.server.turns.sessions import Sessions
from tickertape.server.turns.turns import Turns

#: Tokens of context of each generation of the embedded engine, unless it is set.
_EMBEDDED_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that can be made before anything runs: engines by name (not started), tokenizer's renderer."""

    engines: Mapping[str, Engine]
    choice: Choice


def make_parts(settings: Settings, *, say: Callable[[str], None]) -> Parts:
    """Loads tokenizer and renderer, and fetches the default model where it is needed.

    Args:
        settings: what to run.
        say: gets a line before each slow step.

    Raises:
        SettingsError, StoreError, ValueError: see :func:`tickertape.server.serving.checks.check_settings`.
        TokenizerError, RenderError, ModelFileError: see there.
    """
    check_settings(settings)
    if settings.engines == EMBEDDED:
        path = model_file(settings.gguf, say=say)
        say(f"model     loading {settings.model or path.stem}")
        tokenizer = tokenizer_from_gguf(path) if settings.model is None else Tokenizer.load(settings.model)
        engine = EmbeddedEngine(
            path, tokenizer, context=settings.context or _EMBEDDED_CONTEXT, parallel=settings.parallel
        )
        return Parts({"embedded": engine}, _choose(settings, tokenizer))
    assert settings.model is not None  # noqa: S101  (checked)
    say(f"model     loading the tokenizer of {settings.model}")
    return Parts(_engines(settings), _choose(settings, Tokenizer.load(settings.model)))


def _engines(settings: Settings) -> dict[str, Engine]:
    """Named after their kind and place in the list: ``vllm-0``, ``vllm-1``."""
    engines = {}
    api_key = None if settings.engine_api_key is None else settings.engine_api_key.get_secret_value()
    for number, spec in enumerate(settings.engines):
        kind = spec.partition("=")[0]
        engines[f"{kind}-{number}"] = make_engine(
            spec, api_key, connect_timeout=settings.connect_timeout, context=settings.context
        )
    return engines


def _choose(settings: Settings, tokenizer: Tokenizer) -> Choice:
    if settings.renderer is None:
        return choose_renderer(tokenizer, history=settings.history)
    renderer = get_renderer(settings.renderer, tokenizer, history=settings.history)
    return Choice(renderer, "it was asked for", {"history": settings.history}, named=settings.renderer)


@asynccontextmanager
async def running_service(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    """Opens the tape and connects to the engines, and closes both afterwards. Engines that are reached by URL need not
    answer yet.

    Raises:
        ValueError: there is no such matching policy.
        SettingsError: the engines do not report a token array that is to be kept, or other machines would reach this
            server without a key.
        EngineError: the embedded engine cannot be started, or two engines serve different models.
        StoreError: the tape cannot be opened, or is a file that has a server.
    """
    matching = policy_named(settings.matching)
    durability = Durability(settings.sync, settings.store_patience, settings.backlog_memory)
    store = Store(settings.db, serving=True, durability=durability)
    keyring = _keyring(settings, store)
    pool = EnginePool(
        parts.engines,
        limit=settings.engine_limit,
        patience=settings.engine_patience,
        queue_timeout=settings.queue_timeout,
        timeouts=Silence(settings.first_token_timeout, settings.token_timeout),
    )
    try:
        try:
            await check_exposure(settings, keyring)
            await _start(pool, parts.engines.values())
            if pool.model is not None and (missing := missing_arrays(settings.token_arrays, pool.info)):
                raise SettingsError(f"--token-array: {missing}")
            turns = Turns(
                pool,
                RendererPool(parts.choice),
                store,
                Sessions(store, most=settings.live_sessions),
                history=settings.history,
                matching=matching,
                limits=_limits(settings),
            )
            service = Service(
                turns,
                settings.served_model_names,
                settings.unknown_fields,
                InFlightCalls(settings.replay_window),
                keyring,
                settings.heartbeat,
                Bodies(settings.max_body_bytes, settings.max_body_memory),
                CallLimits(settings.max_calls, settings.queue_limit, settings.session_calls),
                settings.connect_timeout,
                Browsers(settings.allowed_hosts, own=settings.host, any_host=_is_any_host(settings)),
                settings.images,
            )
            service.registry = make_registry(turns, service.recognition, service.admission)
            report = await recover(store)
            tell(report)
            service.ages.start_after(report.away)
            try:
                async with (
                    _keeping(service, settings),
                    service.shared_policy.followed(),
                    loop_watched(turns.metrics.loop_lag),
                    tracing_to(settings.otlp_endpoint) as service.tracing,
                ):
                    yield service
                await service.refusals.close()
            finally:
                await end(store)
        finally:
            await pool.close()
    finally:
        store.close()


async def _start(pool: EnginePool, engines: Iterable[Engine]) -> None:
    """Engines that are reached by URL may come later; one that is built in this process works now or never."""
    if any(isinstance(engine, EmbeddedEngine) for engine in engines):
        await pool.start(wait=None)
        await pool.check()
    else:
        await pool.start()


def _keyring(settings: Settings, store: Store) -> Keyring:
    given = {Role.ADMIN: settings.admin_key, Role.TRAINER: settings.trainer_key, Role.AGENT: settings.agent_key}
    configured = [ConfiguredKey(role, hash_of(key.get_secret_value())) for role, key in given.items() if key]
    secret = settings.session_key_secret
    return Keyring(store, settings.auth, configured, None if secret is None else secret.get_secret_value().encode())


def _is_any_host(settings: Settings) -> bool:
    """Returns True if the server may be called by any name: for those who say that the network keeps others out, unless
    they say by which."""
    return settings.insecure_public and not settings.allowed_hosts


def _limits(settings: Settings) -> TurnLimits:
    sampling = SamplingLimits(settings.max_prompt_tokens, settings.max_output_tokens, settings.token_arrays)
    return TurnLimits(
        sampling,
        settings.turn_timeout,
        settings.max_session_turns,
        chunk_tokens=settings.chunk_tokens,
        stream_chunk_tokens=settings.stream_chunk_tokens,
    )


@asynccontextmanager
async def _keeping(service: Service, settings: Settings) -> AsyncIterator[None]:
    """Keeps the tape within the limits that are set, beside what is served."""
    keep_seconds = None if settings.keep_days is None else settings.keep_days * 86400
    limits = Limits(keep_seconds, settings.keep_tokens)
    if limits == Limits() and settings.finish_idle is None:
        yield
        return
    keeping = asyncio.create_task(
        keep_keeping(service.keeper, limits, idle_seconds=settings.finish_idle, every=settings.keep_every)
    )
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
