"""What can be set, with its defaults."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tickertape.renderers.format import History


class UnknownFields(StrEnum):
    """What becomes of request fields outside the protocol."""

    REPORT = "report"
    """They are named in the answer's ``X-Tickertape-Ignored`` header and on the turn."""
    REJECT = "reject"
    """The request is refused with a 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one server."""

    host: str = "127.0.0.1"
    port: int = 8700
    db: Path = Path("tape.db")
    engines: tuple[str, ...] = ("embedded",)
    """``embedded``, or any number of ``vllm=URL``, ``sglang=URL`` and ``tinker=WEIGHTS`` that serve one model."""
    engine_api_key: str | None = None
    model: str | None = None
    """Hub name or directory of the tokenizer; the embedded engine brings its own."""
    gguf: Path | None = None
    """The embedded engine's model file; ``None``: the default model, fetched on first use."""
    context: int = 8192
    """The embedded engine's context, in tokens for each concurrent generation."""
    parallel: int = 4
    """How many generations the embedded engine runs at once."""
    renderer: str | None = None
    """A family's name or ``template``; ``None``: chosen by evidence."""
    served_model_names: tuple[str, ...] = ()
    history: History = History.EXACT
    matching: str = "default"
    """What of a message counts when histories are compared: ``strict``, ``default``, ``loose``, or a dotted path."""
    replay_window: float = 600
    """Seconds for which a retry gets the answer that was given; 0 samples again."""
    replay_memory: int = 64 * 2**20
    """Bytes that answers kept for retries may take up."""
    unknown_fields: UnknownFields = UnknownFields.REPORT
    heartbeat: float = 15.0
    """Seconds of silence after which a stream gets a sign of life."""
    engine_limit: int | None = None
    """Generations that one engine gets at once; more wait here. ``None``: as many as come."""
    engine_patience: float = 30.0
    """Seconds that a request waits while no engine could take it, whatever room there was."""
    turn_timeout: float | None = None
    """Seconds that sampling a turn may take; then it is aborted, and what was sampled kept."""
    token_arrays: tuple[str, ...] = ()
    """Per-token extras that engines are asked for with every turn, such as ``routed_experts``."""
    max_prompt_tokens: int | None = None
    max_output_tokens: int | None = None
    finish_idle: float | None = None
    """Seconds without a call after which a session is finished; ``None``: only trainers finish sessions."""
    keep_days: float | None = None
    """Days after which finished and discarded sessions are dropped; ``None``: never."""
    keep_tokens: int | None = None
    """Tokens on tape above which finished and discarded sessions are dropped, oldest first."""
    keep_every: float = 60.0
    """Seconds between two looks at these limits."""
    grace: int = 20
    """Seconds that running calls get to finish when the server is stopped; then they are recorded as aborted."""
