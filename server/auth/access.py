"""The access that a route asks for, and that a caller has: a route says its rule beside itself, by ``@allow``."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])

_RULE = "__tickertape_access__"
_PRINCIPAL = "tickertape.principal"


class Role(StrEnum):
    """Of a key. Each may do what those before it may."""

    AGENT = "agent"
    TRAINER = "trainer"
    ADMIN = "admin"


class Access(StrEnum):
    """The callers that a route admits."""

    OPEN = "open"
    """Anybody, without a credential."""
    AGENT = "agent"
    """Agents, in sessions of their own; trainers and admins in any."""
    TRAINER = "trainer"
    ADMIN = "admin"


_RANKS = {Access.OPEN: -1, Access.AGENT: 0, Access.TRAINER: 1, Access.ADMIN: 2}


def allow(access: Access) -> Callable[[EndpointT], EndpointT]:
    """Says who may call a route's function. A route without it is refused to everybody."""

    def mark(endpoint: EndpointT) -> EndpointT:
        setattr(endpoint, _RULE, access)
        return endpoint

    return mark


def access_of(endpoint: Callable[..., Any]) -> Access | None:
    """The rule of a route's function; ``None`` if it has none."""
    return getattr(endpoint, _RULE, None)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a route."""

    role: Role
    key_id: str = ""
    """Of the key that was shown; empty where none is asked for, and for a session's key."""
    session_id: str | None = None
    """The only session that a session's key is for."""

    def may(self, access: Access) -> bool:
        """Returns True if this role may call such routes at all."""
        return _RANKS[Access(self.role)] >= _RANKS[access]

    def may_use(self, session_id: str) -> bool:
        """Returns True if an agent's call may be in this session. An agent's key has those whose id begins with its
        own: that is known without a look at the tape, here as on every other replica, and no two keys can claim the
        same one."""
        if self.session_id is not None:
            return session_id == self.session_id
        return self.role is not Role.AGENT or session_id.startswith(f"{self.key_id}.")

    def new_session_id(self) -> str:
        """For a call that names none."""
        made_up = uuid.uuid4().hex
        return f"{self.key_id}.{made_up}" if self.role is Role.AGENT and self.key_id else made_up


#: Without authentication everybody may do everything.
ANYBODY = Principal(Role.ADMIN)


def set_principal(scope: Any, principal: Principal) -> None:
    """Says on an ASGI scope who calls."""
    scope[_PRINCIPAL] = principal


def principal_of(request: Request) -> Principal:
    """Returns the caller. The guard has set it; a request that came past it is an error."""
    principal: Principal = request.scope[_PRINCIPAL]
    return principal


def presented_key(headers: Headers) -> str | None:
    """The key that a request shows: ``Authorization: Bearer KEY``, else ``x-api-key``, as Anthropic's clients do, or
    ``x-goog-api-key``, as Google's."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        key = headers.get("x-api-key", "") or headers.get("x-goog-api-key", "")
    return key.strip() or None


def client_of(request: Request) -> bytes:
    """Returns what clients without a session id are distinguished by: 8 bytes of a digest. Never the key itself: this
    is kept."""
    principal = principal_of(request)
    shown = request.headers.get("Authorization") or presented_key(request.headers) or ""
    return hashlib.sha256((f"key {principal.key_id}" if principal.key_id else shown).encode()).digest()[:8]
