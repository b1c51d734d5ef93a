"""The ways in which an engine can fail. The tokens that came before the failure have been handed out already."""

from enum import StrEnum


class EngineError(Exception):
    """An engine did not do what it was asked to."""


class EngineUnavailable(EngineError):
    """It cannot be reached, or went away."""


class EngineGone(EngineUnavailable):
    """No process listens where it was."""


class Phase(StrEnum):
    """The waits in which an engine can take too long."""

    CONNECT = "connect"
    FIRST_TOKEN = "first_token"  # noqa: S105  (no password)
    TOKEN = "token"  # noqa: S105


class EngineTimeout(EngineUnavailable):
    """It took too long.

    Attributes:
        phase: for what.
    """

    def __init__(self, message: str, phase: Phase) -> None:
        super().__init__(message)
        self.phase = phase


class EngineBusy(EngineUnavailable):
    """It has no room for the request now. Nothing was sampled.

    Attributes:
        retry_after: seconds after which it may have, where that is known.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueTimeout(EngineBusy):
    """The request waited for room for as long as it may."""


class EngineRefused(EngineError):
    """It understood the request and will not do it.

    Attributes:
        param: the field at fault, where it is known.
        context_exceeded: whether the prompt is longer than the engine's context.
    """

    def __init__(self, message: str, *, param: str | None = None, context_exceeded: bool = False) -> None:
        super().__init__(message)
        self.param = param
        self.context_exceeded = context_exceeded


class EngineAborted(EngineError):
    """It broke the generation off on an order that was not ours."""


class EngineNonsense(EngineError):
    """It answered something that cannot be trusted: wrong counts, a missing field, no JSON."""


class EngineCannot(EngineError):
    """It has no such feature."""
