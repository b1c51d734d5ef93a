"""Settings to a running service: engine, renderer, tape."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
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
from tickertape.server.calls.limits import CallLimits
from tickertape.server.calls.retries import Retries
from tickertape.server.calls.service import Service
from tickertape.server.http.body_limit import Bodies
from tickertape.server.observing.process import loop_watched
from tickertape.server.observing.traced import tracing_to
from tickertape.server.serving.exposure import check_exposure
from tickertape.server.serving.retention import keep_keeping
from tickertape.server.settings import Settings, SettingsError
from tickertape.server.store.durability import Durability
from tickertape.server.store.recovery import end, recover, tell
from tickertape.server.store.retention import Limits
from tickertape.server.store.store import Store
from tickertape.server.trajectories.normalising import policy_named
from tickertape.server.turns.renderer_pool import RendererPool
from tickertape.server.turns.sampling import SamplingLimits, missing_arrays
from tickertape.server.turns.sessions import Sessions
from tickertape.server.turns.token_arrays import KNOWN
from tickertape.server.turns.turns import TurnLimits, Turns


@dataclass(frozen=True, slots=True)
class Parts:
    """What can be made before anything runs: engines by name (not started), tokenizer's renderer."""

    engines: Mapping[str, Engine]
    choice: Choice


def make_parts(settings: Settings, *, say: Callable[[str], None]) -> Parts:
    """Loads tokenizer and renderer, and fetches the default model where it is needed.

    Args:
        settings: what to run.
        say: gets a line before each slow step.

    Raises:
        SettingsError: they contradict each other or name what is not there.
        TokenizerError, RenderError, ModelFileError: see there.
    """
    if unknown := set(settings.token_arrays) - KNOWN:
        raise SettingsError(f"--token-array {', '.join(sorted(unknown))}: there are {', '.join(sorted(KNOWN))}")
    if settings.engines == ("embedded",):
        path = model_file(settings.gguf, say=say)
        tokenizer = tokenizer_from_gguf(path) if settings.model is None else Tokenizer.load(settings.model)
        engine = EmbeddedEngine(path, tokenizer, context=settings.context, parallel=settings.parallel)
        return Parts({"embedded": engine}, _choose(settings, tokenizer))
    try:
        engines = _engines(settings)
    except ValueError as error:
        raise SettingsError(f"--{error}, or 'embedded' alone") from error
    if settings.gguf is not None:
        raise SettingsError("--gguf is the embedded engine's model; engines that are reached by URL have their own")
    if settings.model is None:
        raise SettingsError("--engine KIND=URL needs --model HUB_NAME|TOKENIZER_DIR: prompts are tokenised here")
    return Parts(engines, _choose(settings, Tokenizer.load(settings.model)))


def _engines(settings: Settings) -> dict[str, Engine]:
    """Named after their kind and place in the list: ``vllm-0``, ``vllm-1``."""
    engines = {}
    api_key = None if settings.engine_api_key is None else settings.engine_api_key.get_secret_value()
    for number, spec in enumerate(settings.engines):
        kind = spec.partition("=")[0]
        engines[f"{kind}-{number}"] = make_engine(spec, api_key, connect_timeout=settings.connect_timeout)
    return engines


def _choose(settings: Settings, tokenizer: Tokenizer) -> Choice:
    if settings.renderer is None:
        return choose_renderer(tokenizer, history=settings.history)
    renderer = get_renderer(settings.renderer, tokenizer, history=settings.history)
    return Choice(renderer, f"{settings.renderer} was asked for", {"history": settings.history})


@asynccontextmanager
async def running_service(settings: Settings, parts: Parts) -> AsyncIterator[Service]:
    """Starts the engine, opens the tape, and closes both afterwards.

    Raises:
        ValueError: there is no such matching policy.
        SettingsError: the engines do not report a token array that is to be kept, or other machines would reach this
            server without a key.
        EngineError: the engine cannot be started or reached.
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
            await pool.start()
            if missing := missing_arrays(settings.token_arrays, pool.info):
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
            retries = Retries(window=settings.replay_window, memory=settings.replay_memory)
            names = [*dict.fromkeys([pool.info.model, *settings.served_model_names])]
            service = Service(
                turns,
                names,
                settings.unknown_fields,
                retries,
                keyring,
                settings.heartbeat,
                Bodies(settings.max_body_bytes, settings.max_body_memory),
                CallLimits(settings.max_calls, settings.queue_limit, settings.session_calls),
                settings.connect_timeout,
                Browsers(settings.allowed_hosts, own=settings.host, any_host=_is_any_host(settings)),
            )
            service.startup_report = tell(await recover(store))
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


def _keyring(settings: Settings, store: Store) -> Keyring:
    given = {Role.ADMIN: settings.admin_key, Role.TRAINER: settings.trainer_key, Role.AGENT: settings.agent_key}
    configured = [ConfiguredKey(role, hash_of(key.get_secret_value())) for role, key in given.items() if key]
    secret = settings.session_key_secret
    return Keyring(store, settings.auth, configured, None if secret is None else secret.get_secret_value().encode())


def _is_any_host(settings: Settings) -> bool:
    """Who says that the network keeps others out may call the server what they like, unless they say what."""
    return settings.insecure_public and not settings.allowed_hosts


def _limits(settings: Settings) -> TurnLimits:
    sampling = SamplingLimits(settings.max_prompt_tokens, settings.max_output_tokens, settings.token_arrays)
    return TurnLimits(sampling, settings.turn_timeout, settings.max_session_turns)


@asynccontextmanager
async def _keeping(service: Service, settings: Settings) -> AsyncIterator[None]:
    """Keeps the tape within the limits that are set, beside what is served."""
    keep_seconds = None if settings.keep_days is None else settings.keep_days * 86400
    limits = Limits(keep_seconds, settings.keep_tokens)
    if limits == Limits() and settings.finish_idle is None:
        yield
        return
    keeping = asyncio.create_task(
        keep_keeping(service, limits, idle_seconds=settings.finish_idle, every=settings.keep_every)
    )
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
