"""How an engine can fail. The tokens that came before the failure have been handed out already."""


class EngineError(Exception):
    """An engine did not do what it was asked to."""


class EngineUnavailable(EngineError):
    """It cannot be reached, or went away."""


class EngineGone(EngineUnavailable):
    """Nobody listens where it was."""


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
    """It broke the generation off on somebody else's order."""


class EngineNonsense(EngineError):
    """It answered something that cannot be trusted: wrong counts, a missing field, no JSON."""


class EngineCannot(EngineError):
    """It has no such feature."""
