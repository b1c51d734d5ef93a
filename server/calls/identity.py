"""Which session a request belongs to: its session key's; else from the URL, else a header, else the API key, else a new
one. The guard has seen to it that a key reaches the session that the URL and the header name."""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request

from tickertape.server.auth.access import ANYBODY, Principal, client_of, presented_key, principal_of
from tickertape.server.auth.guard import SESSION_HEADER
from tickertape.server.errors import InvalidRequest

_KEY_PREFIX = "session-"
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


#: The recorded field that holds what headers tell of the agent that calls.
AGENT_FIELD = "agent_headers"
#: Such as ``x-claude-code-agent-id``, ``x-parent-session-id``, ``x-openai-subagent``; not who it is in general
#: (``User-Agent``).
_OF_AGENT = re.compile(r"(?!user-agent$)(.*-)?((sub-?)?agent|parent)(-.*)?")
#: Of such headers that are kept, and of the characters of each.
_MOST_HEADERS, _MOST_CHARACTERS = 16, 256


def told_of_agent(headers: Headers) -> dict[str, str]:
    """Returns what a client's headers say of which of its agents calls, and on whose behalf: by that a trainer tells
    sub-agents of a session apart."""
    named = [(name, value[:_MOST_CHARACTERS]) for name, value in headers.items() if _OF_AGENT.fullmatch(name)]
    return dict(named[:_MOST_HEADERS])


@dataclass(frozen=True, slots=True)
class Caller:
    """The maker of an agent's call, and the session it is for."""

    session_id: str | None
    """That the call names."""
    client: bytes
    """Bytes by which callers that name no session are distinguished."""
    principal: Principal

    def may_read(self, session_id: str) -> bool:
        """Returns True if what is on tape in this session is there for the call."""
        return self.session_id in (None, session_id) and self.principal.may_use(session_id)


def caller_of(request: Request) -> Caller:
    """
    Raises:
        InvalidRequest: it names something that cannot be a session id.
    """
    return Caller(session_of(request), client_of(request), principal_of(request))


def session_of(request: Request) -> str | None:
    """The session that the request names, or ``None``.

    Raises:
        InvalidRequest: it names something that cannot be a session id.
    """
    principal = principal_of(request)
    if principal.session_id is not None:
        return principal.session_id
    named = request.path_params.get("session_id") or request.headers.get(SESSION_HEADER)
    if named is None and principal is ANYBODY:  # else the API key is a real one
        named = _from_api_key(request)
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


def _from_api_key(request: Request) -> str | None:
    key = presented_key(request.headers)
    return key.removeprefix(_KEY_PREFIX) if key is not None and key.startswith(_KEY_PREFIX) else None
