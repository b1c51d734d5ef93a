"""In front of every route: who calls, and whether the route's rule lets them. What has no rule is refused to all.

It looks up the route by itself, in the order in which the application will, from the same path: a request is judged
before anything of its body is read.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from tickertape.server.auth.access import ANYBODY, Access, Principal, access_of, presented_key, set_principal
from tickertape.server.auth.browsers import Browsers
from tickertape.server.auth.keyring import Keyring
from tickertape.server.errors import Forbidden, MethodNotAllowed, NotFound

SESSION_HEADER = "X-Session-Id"


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of who may call one route."""

    route: Route
    access: Access | None
    """``None``: no caller; it has not been set."""


class RouteRules:
    """The rules of an application's routes, in its order."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._rules = [Rule(route, access_of(route.endpoint)) for route in routes if isinstance(route, Route)]

    def find(self, method: str, path: str) -> tuple[Rule, Mapping[str, Any]]:
        """The rule of a request, and what its path names.

        Raises:
            NotFound, MethodNotAllowed: there is no such route.
        """
        others: set[str] = set()
        for rule in self._rules:
            found = rule.route.path_regex.match(path)
            if found is None:
                continue
            methods = rule.route.methods or set()
            if method in methods:
                return rule, found.groupdict()
            others |= methods
        if others:
            allowed = sorted(others)
            raise MethodNotAllowed(f"{method} {path}: it answers to {', '.join(allowed)}", allowed=allowed)
        meant = next((f"; did you mean {other}?" for other in _with_other_base(path) if self._is_route(other)), ".")
        raise NotFound(f"{method} {path}: there is no such route{meant} {_BASES}")

    def _is_route(self, path: str) -> bool:
        return any(rule.route.path_regex.match(path) for rule in self._rules)


#: Said to whom asks for a path that is none: most often the base URL is wrong.
_BASES = (
    "An agent's base_url is http://HOST:PORT/v1 or http://HOST:PORT/sessions/ID/v1, without /v1 for Anthropic's "
    "and Google's clients; a trainer's is http://HOST:PORT"
)


def _with_other_base(path: str) -> Iterator[str]:
    """The path as it would be under a base URL without the usual mistakes."""
    plain = re.sub("/{2,}", "/", path).rstrip("/")  # a slash at the end of the base URL, or of the path
    once = re.sub(r"(/v1)+(?=/v1/)", "", plain)  # /v1 twice
    yield once
    yield re.sub(r"(/chat/completions|/completions|/messages|/responses|/models)\1$", r"\1", once)  # a whole address
    yield re.sub(r"^(/sessions/[^/]+)?/", r"\g<0>v1/", once)  # none
    yield re.sub(r"^(/sessions/[^/]+)?/(?:v1(?:beta)?/)*", r"\g<1>/v1beta/", plain)  # Google's
    yield once.removeprefix("/v1")  # a trainer's
    yield once[max(once.rfind("/v1/"), 0) :]  # something before it


async def admit(
    scope: Scope, headers: Headers, rules: RouteRules, keyring: Keyring, browsers: Browsers
) -> tuple[Access, Callable[..., Any]]:
    """Says on a scope who calls; gives the route's rule and its function.

    Args:
        scope: of a request, with its headers.
        headers: those, to be looked up.
        rules: of all routes.
        keyring: knows the keys.
        browsers: what is done about web pages, where no key is asked for.

    Raises:
        ProxyError: there is no such route, or the caller may not call it. The text says what would be right.
        StoreError: the tape that has the keys cannot be read.
    """
    rule, named = rules.find(scope["method"], scope["path"])
    endpoint = rule.route.endpoint
    scope["endpoint"], scope["path_params"] = endpoint, dict(named)
    if rule.access is Access.OPEN:
        return Access.OPEN, endpoint
    principal = await keyring.identify(presented_key(headers))
    if principal is ANYBODY:
        browsers.check(scope["method"], headers)
    if rule.access is None:
        raise Forbidden("nobody may call this route: it has no rule of access")
    check(principal, rule.access, [cast("str | None", named.get("session_id")), *headers.getlist(SESSION_HEADER)])
    set_principal(scope, principal)
    return rule.access, endpoint


def check(principal: Principal, access: Access, sessions: Iterable[str | None]) -> None:
    """Lets a caller pass.

    Args:
        principal: who calls.
        access: the route's rule.
        sessions: that the request names, wherever.

    Raises:
        Forbidden: the text says what would be right.
    """
    if not principal.may(access):
        raise Forbidden(f"this needs the key of {_WHO[access]}, and yours is {_WHO[Access(principal.role)]}'s")
    for session_id in sessions:
        if session_id is not None and not principal.may_use(session_id):
            raise Forbidden(_not_yours(principal, session_id), param="session_id", code="session_not_yours")


_WHO = {Access.AGENT: "an agent", Access.TRAINER: "a trainer", Access.ADMIN: "an admin"}


def _not_yours(principal: Principal, session_id: str) -> str:
    if principal.session_id is not None:
        return f"the session key is for the session {principal.session_id!r}, not for {session_id!r:.200}"
    return (
        f"an agent's key reaches sessions of its own, whose ids begin with '{principal.key_id}.', not"
        f" {session_id!r:.200}: leave the id to the server, or ask the trainer for a key of that session"
    )
