"""Which session a request belongs to: from the URL, else a header, else the API key, else a new one."""

import re
import uuid

from starlette.requests import Request

from tickertape.server.errors import InvalidRequest

SESSION_HEADER = "X-Session-Id"
_KEY_PREFIX = "session-"
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


def session_of(request: Request) -> str | None:
    """The session that the request names, or ``None``.

    Raises:
        InvalidRequest: it names something that cannot be a session id.
    """
    named = request.path_params.get("session_id") or request.headers.get(SESSION_HEADER) or _from_api_key(request)
    return None if named is None else checked_session_id(named, "session_id")


def checked_session_id(named: str, param: str) -> str:
    """The id itself.

    Raises:
        InvalidRequest: it cannot be one.
    """
    if not SESSION_ID.fullmatch(named):
        raise InvalidRequest(
            f"{named!r:.200} is no session id: 1 to 128 letters, digits and . _ : @ -, a letter or digit first",
            param=param,
        )
    return named


def new_session_id() -> str:
    return uuid.uuid4().hex


def _from_api_key(request: Request) -> str | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        key = request.headers.get("x-api-key", "")
    return key.strip().removeprefix(_KEY_PREFIX) if key.strip().startswith(_KEY_PREFIX) else None
