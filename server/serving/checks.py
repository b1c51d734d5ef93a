"""Settings that cannot work, found before a model is loaded or anything is fetched."""

from tickertape.clients.engines.choose import make_engine
from tickertape.clients.extras import missing, needs
from tickertape.renderers.choose import renderer_class
from tickertape.server.observing.traced import check_tracing
from tickertape.server.settings import Settings, SettingsError
from tickertape.server.store.database import check_place, is_postgres
from tickertape.server.trajectories.normalising import policy_named
from tickertape.server.turns.token_arrays import KNOWN

EMBEDDED = ("embedded",)
_NAME_ONE = "name a server: --engine vllm=http://HOST:PORT (or sglang=…)"


def check_settings(settings: Settings) -> None:
    """Looks at what costs nothing to look at.

    Raises:
        SettingsError: the settings contradict each other, name what is not there, or need what is not installed.
        StoreError: there cannot be a tape where ``db`` says.
        ValueError: there is no such matching policy, or no such renderer.
    """
    if unknown := set(settings.token_arrays) - KNOWN:
        raise SettingsError(f"--token-array {', '.join(sorted(unknown))}: there are {', '.join(sorted(KNOWN))}")
    _check_embedded(settings) if settings.engines == EMBEDDED else _check_engines(settings)
    policy_named(settings.matching)
    if settings.renderer is not None:
        renderer_class(settings.renderer)
    if is_postgres(settings.db) and missing("postgres"):
        raise SettingsError(needs("a tape on PostgreSQL", "postgres"))
    check_place(settings.db)
    check_tracing(settings.otlp_endpoint)


def _check_embedded(settings: Settings) -> None:
    if settings.model is not None and settings.gguf is None:
        raise SettingsError(
            f"--model {settings.model} is the tokenizer of a model that an engine serves, and no engine is named: add "
            "--engine vllm=http://HOST:PORT (or sglang=…); for a model file in this process, --gguf FILE"
        )
    if missing("embedded"):
        raise SettingsError(f"{needs('the embedded engine', 'embedded')}; or {_NAME_ONE} and --model HUB_NAME")
    if settings.gguf is not None and not settings.gguf.is_file():
        raise SettingsError(f"--gguf {settings.gguf}: there is no such file")


def _check_engines(settings: Settings) -> None:
    try:
        for spec in settings.engines:
            make_engine(spec, None)
    except ValueError as error:
        raise SettingsError(f"--{error}") from error
    if settings.gguf is not None:
        raise SettingsError("--gguf is the embedded engine's model; engines that are reached by URL have their own")
    if settings.model is None:
        raise SettingsError("--engine KIND=URL needs --model HUB_NAME|TOKENIZER_DIR: prompts are tokenised here")
    if any(spec.startswith("tinker=") for spec in settings.engines) and missing("tinker"):
        raise SettingsError(needs("the Tinker engine", "tinker"))
