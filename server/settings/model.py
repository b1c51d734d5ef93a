"""The settings: one model for flags, environment and file, see ``sources``.

The text below a field is its help wherever it is shown.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from tickertape.renderers.history import History
from tickertape.server.auth.keys import hash_of
from tickertape.server.observing.logs import LogFormat, LogLevel
from tickertape.server.store.durability import Sync


class SettingsError(ValueError):
    """Settings that cannot work; the text says which and what would."""


class AuthMode(StrEnum):
    """Rules of when a key is asked for."""

    AUTO = "auto"
    """As soon as there is a key, in the settings or on tape."""
    REQUIRED = "required"
    """Always, even while there is none."""
    OFF = "off"
    """Never."""


class UnknownFields(StrEnum):
    """Ways to treat request fields outside the protocol."""

    REPORT = "report"
    """They are named in the answer's ``X-Tickertape-Ignored`` header and on the turn."""
    REJECT = "reject"
    """The request is refused with a 400."""


class Images(StrEnum):
    """Ways to treat pictures and other parts of messages that the model cannot read."""

    PLACEHOLDER = "placeholder"
    """A text stands in their place, and they are named as ignored."""
    REFUSE = "refuse"
    """The request is refused with a 400."""


def _parts(given: object) -> object:
    """A list in one text, as environment variables hold it: its parts lie between commas."""
    return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given


#: Several texts. ``NoDecode``: from the environment they come between commas, not as JSON.
Texts: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parts)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Timeout: TypeAlias = Annotated[float, Field(ge=0.1, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]


def _checked_key(given: SecretStr) -> SecretStr:
    hash_of(given.get_secret_value())
    return given


#: An API key, or its hash.
ApiKey: TypeAlias = Annotated[SecretStr, AfterValidator(_checked_key)]


#: What settings are about, by the first field of each group; in help and in the table of all settings.
PANELS = {
    "host": "Address and tape",
    "auth": "Keys and bodies",
    "engines": "Engines and model",
    "history": "Turns",
    "heartbeat": "Connections",
    "engine_limit": "Queues and time",
    "finish_idle": "Sessions that are done, and stopping",
    "log_format": "Logs and traces",
}


def panel_of_each() -> dict[str, str]:
    """The group of each field."""
    panels: dict[str, str] = {}
    panel = ""
    for name in Settings.model_fields:
        panel = panels[name] = PANELS.get(name, panel)
    return panels


class Settings(BaseSettings):
    """Settings of one server."""

    model_config = SettingsConfigDict(
        env_prefix="TICKERTAPE_", extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8700, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    db: Annotated[str, BeforeValidator(lambda given: str(given) if isinstance(given, Path) else given)] = "tape.db"
    """The tape: an SQLite file, made if it is not there, or postgresql://USER:PASSWORD@HOST/DATABASE."""

    sync: Sync = Sync.FULL
    """What has a turn before its answer is sent: full, the disk; normal, the system, and a power cut may take it."""
    store_patience: Seconds = 10
    """Seconds for which a turn is tried again while the tape cannot be written; then its caller is told."""
    backlog_memory: Count = 256 * 2**20
    """Bytes of sampled turns that may wait for the tape; beyond, calls are refused before anything is sampled."""

    auth: AuthMode = AuthMode.AUTO
    """Whether an API key is asked for: auto (as soon as there is one), required, off."""
    insecure_public: bool = False
    """Serve on an address that other machines reach though no API key is asked for."""
    allowed_hosts: Texts = ()
    """Where no API key is asked for: another host name under which the server is called, or whose pages may call it."""
    admin_key: ApiKey | None = None
    """An API key that may do everything, or sha256: and its hash in hexadecimal."""
    trainer_key: ApiKey | None = None
    """An API key for trainers, likewise."""
    agent_key: ApiKey | None = None
    """An API key for agents, likewise."""
    session_key_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """What session keys are signed with, 32 characters or more. Default: made once, and kept on the tape."""
    max_body_bytes: Count = 64 * 2**20
    """Refuse requests with longer bodies."""
    max_body_memory: Count = 512 * 2**20
    """Refuse bodies while those that are being read have more bytes together, beyond 64 KiB of each."""

    engines: Texts = ("embedded",)
    """embedded, or any number of vllm=URL, sglang=URL and tinker=WEIGHTS that serve one model."""
    engine_api_key: SecretStr | None = None
    """Bearer token for the engines."""
    model: str | None = None
    """Tokenizer: hub name or directory. The embedded engine brings its own."""
    gguf: Path | None = None
    """The embedded engine's model file. Default: the default model, fetched on first use."""
    context: Annotated[int, Field(ge=256)] | None = None
    """Tokens of context: the embedded engine's (8192 if not set), and of engines that do not say it themselves."""
    parallel: Count = 4
    """Embedded: concurrent generations."""
    renderer: str | None = None
    """A family's name, or template. Default: chosen by evidence."""
    served_model_names: Texts = ()
    """Another name for the model; * accepts any name."""

    history: History = History.EXACT
    """Keep what was sampled, or do what the model's template does."""
    matching: str = "default"
    """What of a message counts when histories are compared: strict, default, loose, or your.module.policy."""
    unknown_fields: UnknownFields = UnknownFields.REPORT
    """Request fields outside the protocol: name them, or refuse them."""
    images: Images = Images.PLACEHOLDER
    """Pictures, audio and files, which this model cannot read: placeholder (a text in their place), or refuse."""
    token_arrays: Texts = ()
    """Per-token extra to keep with each turn, such as routed_experts or sampling_mask."""
    max_prompt_tokens: Count | None = None
    """Refuse longer prompts."""
    max_output_tokens: Count | None = None
    """Sample at most so many tokens a turn."""
    replay_window: Seconds = 600
    """Seconds for which a retry gets the answer again; 0: never."""

    heartbeat: float = Field(default=15, ge=0.1, allow_inf_nan=False)
    """Seconds of silence after which a stream gets a sign of life."""
    send_timeout: Timeout = 60
    """Seconds after which a client that does not read what it is sent is cut off."""
    request_timeout: Timeout = 60
    """Seconds within which a request must have arrived, head and body."""
    keep_alive: Count = 75
    """Seconds for which a connection without a request is kept."""
    max_connections: Count = 16384
    """Clients' connections at once; on further ones all but health and metrics gets a 503."""
    listen_backlog: Count = 2048
    """Connections that the kernel holds until they are accepted."""
    engine_limit: Count | None = None
    """Generations that one engine gets at once; more wait. Default: as many as come."""
    engine_patience: Seconds = 30
    """Seconds that a request waits while no engine could take it, whatever room there was."""
    max_calls: Count = 8192
    """Calls under way at once, those that wait included; further ones get a 429."""
    session_calls: Count | None = None
    """Calls under way at once of one session; further ones get a 429. Default: as many as come."""
    max_session_turns: Count | None = None
    """Turns of one session, however they ended; further calls get a 400. Default: any number."""
    live_sessions: Count = 20_000
    """Sessions whose trees are kept in memory without a call; others are read from the tape when a call comes."""
    queue_limit: int = Field(default=1000, ge=0)
    """Generations that wait for a place at an engine, beyond what engine_limit lets through; further ones get a 429."""
    queue_timeout: Timeout | None = 300
    """Seconds that a generation waits for a place at an engine; then it gets a 503."""
    connect_timeout: Timeout = 5
    """Seconds that a connection to an engine may take."""
    first_token_timeout: Timeout | None = 600
    """Seconds from a request to an engine to its first token; then another engine gets it, once, or the turn ends."""
    token_timeout: Timeout | None = 300
    """Seconds between two tokens of an engine; then the turn ends, and what was sampled is kept."""
    chunk_tokens: Count = 64
    """Tokens that an engine sends at a time where no client reads along; fewer cost more CPU time a turn."""
    stream_chunk_tokens: Count = 1
    """Tokens that an engine sends at a time where a client reads the answer as it is sampled."""
    turn_timeout: Timeout | None = None
    """Abort a turn that samples for so many seconds, and keep what was sampled. Default: never."""

    finish_idle: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Finish sessions without a call for so many seconds. Default: only trainers finish sessions."""
    keep_days: Seconds | None = None
    """Drop finished and discarded sessions after so many days. Default: never."""
    keep_tokens: Count | None = None
    """Drop the oldest finished and discarded sessions above so many tokens on tape."""
    keep_every: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60
    """Seconds between two looks at these limits."""
    grace: int = Field(default=20, ge=0)
    """Seconds that running calls get when the server is stopped; then they are recorded as aborted."""

    log_format: LogFormat = LogFormat.TEXT
    """How log lines are written: text, or json, an object a line."""
    log_level: LogLevel = LogLevel.INFO
    """The least that is logged: debug, info, warning or error."""
    access_log: bool = True
    """Log a line for each request, at level info."""
    otlp_endpoint: str | None = None
    """Send traces over OTLP/HTTP to this URL, without a path. Default: OTEL_EXPORTER_OTLP_ENDPOINT, if set."""

    quiet: bool = False
    """Write no lines at start, none for each request, and of the log warnings and errors only."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (these names are pydantic's)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In code, what is given counts alone: a test or a demo is not another one by its surroundings."""
        return (init_settings,)
