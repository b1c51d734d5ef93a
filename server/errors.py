"""Errors that a call can be answered with instead of a completion.

Each error knows its HTTP status and OpenAI's ``type``, ``code`` and ``param``; a dialect gives it its protocol's shape.
"""

import math
from collections.abc import Mapping, Sequence

from tickertape.clients.engines.errors import (
    EngineAborted,
    EngineBusy,
    EngineError,
    EngineNonsense,
    EngineRefused,
    EngineTimeout,
    QueueTimeout,
)


class ProxyError(Exception):
    """A call that is not answered with a completion."""

    status = 500
    type = "server_error"
    code = "internal_error"
    param: str | None = None
    headers: Mapping[str, str] = {}
    """That the answer has, beside its body's."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = _writable(message)
        self.param = _writable(param) if param else self.param
        self.code = code or self.code


def _writable(text: str) -> str:
    """Text that JSON can hold: a client's lone surrogate is spelt out where it is quoted."""
    return text.encode(errors="backslashreplace").decode()


class InvalidRequest(ProxyError):
    """The request is at fault: the text says what, where, and what would be right."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    """The prompt leaves no room for a completion.

    Said in OpenAI's words, and by dialects in their own protocols': clients know it by those, beside its code.

    Args:
        why: what else there is to say.
        prompt_tokens: how many there are.
        most: how many there may be, the answer included; ``None`` for both where only an engine knows.
    """

    code = "context_length_exceeded"
    param = "messages"

    def __init__(self, why: str, *, prompt_tokens: int | None = None, most: int | None = None) -> None:
        text = "This model's maximum context length is "
        if most is None:
            text += f"exceeded: {why}"
        else:
            asked = "too many" if prompt_tokens is None else prompt_tokens
            text += f"{most} tokens. However, your messages resulted in {asked} tokens: {why}"
        super().__init__(text)
        self.prompt: tuple[int, int] | None = None
        """The prompt's tokens, and the most that it may have: at least one of the context is the answer's."""
        if prompt_tokens is not None and most is not None:
            self.prompt = prompt_tokens, min(most, prompt_tokens - 1)


class ModelNotFound(InvalidRequest):
    """No model of that name is served."""

    status = 404
    code = "model_not_found"
    param = "model"


class NotFound(InvalidRequest):
    """There is nothing of that name."""

    status = 404
    code = "not_found"


class MethodNotAllowed(InvalidRequest):
    """The path is right, the method is not."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.headers = {"Allow": ", ".join(allowed)}


class Conflict(InvalidRequest):
    """It cannot be done as things stand."""

    status = 409
    code = "conflict"


class SessionClosed(Conflict):
    """An agent's call for a session that is finished or discarded."""

    code = "session_closed"
    param = "session_id"


class Unauthenticated(InvalidRequest):
    """The API key is missing, wrong, or not valid any more. The text never holds it."""

    status = 401
    code = "invalid_api_key"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class Forbidden(InvalidRequest):
    """The API key is good, and not for this."""

    status = 403
    code = "insufficient_permissions"


class BodyTooLarge(InvalidRequest):
    """The body has more bytes than are read."""

    status = 413
    code = "request_too_large"
    headers: Mapping[str, str] = {"Connection": "close"}  # the rest of the body is not waited for


class UnsupportedEncoding(InvalidRequest):
    """The body is compressed."""

    status = 415
    code = "unsupported_content_encoding"
    headers: Mapping[str, str] = {"Connection": "close"}  # the rest of the body is not waited for


class EngineFailed(ProxyError):
    """The engine is at fault."""

    status = 502
    code = "engine_error"


class NoEngineYet(EngineFailed):
    """No engine has answered since this server was started: what is served is not known yet."""

    status = 503
    code = "engine_unavailable"
    headers: Mapping[str, str] = {"Retry-After": "5"}


class GenerationEnded(ProxyError):
    """The generation was ended here: its session was discarded, or its time was up."""

    def __init__(self, message: str, *, code: str, status: int) -> None:
        super().__init__(message, code=code)
        self.status = status


class ServerStopping(ProxyError):
    """The server is being stopped; another one, or the next one, may answer."""

    status = 503
    code = "server_stopping"
    headers: Mapping[str, str] = {"Retry-After": "1"}


def from_engine(error: EngineError) -> ProxyError:
    """An engine's failure as an answer: its refusals are the client's to mend, the rest is not."""
    if isinstance(error, EngineRefused):
        if error.context_exceeded:
            return ContextLengthExceeded(str(error))
        return InvalidRequest(f"the engine refuses this request: {error}", param=error.param, code="engine_refused")
    if isinstance(error, EngineAborted):
        return EngineFailed(str(error), code="aborted")
    if isinstance(error, EngineTimeout):
        failed = EngineFailed(str(error), code=f"{error.phase}_timeout")
        failed.status = 504
        return failed
    if isinstance(error, EngineBusy):
        failed = EngineFailed(str(error), code="queue_timeout" if isinstance(error, QueueTimeout) else "engine_busy")
        failed.status, failed.headers = 503, retry_in(error.retry_after or 1)
        return failed
    code = "engine_bad_response" if isinstance(error, EngineNonsense) else "engine_unavailable"
    return EngineFailed(str(error), code=code)


def retry_in(seconds: float) -> dict[str, str]:
    """``Retry-After``, whose seconds are whole: at least one, and no more than clients bear with."""
    return {"Retry-After": str(math.ceil(min(max(seconds, 1.0), 60.0)))}


def openai_error(error: ProxyError) -> dict[str, dict[str, str | None]]:
    """OpenAI's error shape."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
