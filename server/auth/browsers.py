"""The defence against what a web page could have a browser do, where no key is asked for.

A page of anybody's runs in a browser on the same machine or network as the server. Without keys two doors are open to
it: a name of the page's own that is resolved to the server's address (DNS rebinding), by which it reads all answers as
its own, and requests that a browser sends to other sites unasked, by which it changes something unseen. The first shows
in ``Host``, the second in ``Origin`` and ``Sec-Fetch-Site``. With a key neither matters: a page has none to show.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.datastructures import Headers

from tickertape.server.errors import Forbidden

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Hosts that were looked at, at most.
_MOST_KNOWN = 1024
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/]*)(?::\d*)?")


class Browsers:
    """Refuses what only a page of another site would send.

    Args:
        hosts: names under which the server is reached, beside ``localhost`` and addresses; their pages may call it.
        own: the name on which it listens.
        any_host: whether it is reached under every name.
    """

    def __init__(self, hosts: Iterable[str] = (), *, own: str = "localhost", any_host: bool = False) -> None:
        self._hosts = {_normal(host) for host in hosts}
        self._own = _normal(own)
        self._any_host = any_host
        self._known: dict[str, bool] = {}

    def check(self, method: str, headers: Headers) -> None:
        """Lets a request pass that shows no key.

        Raises:
            Forbidden: it names the server by a name that is not its own, or comes from a page of another site.
        """
        host = headers.get("host", "")
        if not self._is_known(host):
            raise Forbidden(
                f"this server asks for no key, so it answers under its own names only, and {host!r:.200} is none of"
                " them: add it (--allowed-host), or ask for keys",
                code="host_not_allowed",
            )
        if method in _SAFE:
            return
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        is_own = origin is None or self._is_own(origin, host)
        if not is_own or (origin is None and site not in ("none", "same-origin")):
            raise Forbidden(
                f"this server asks for no key, so it takes nothing from pages of other sites, such as {origin!r:.200}:"
                " add the page's host (--allowed-host), or ask for keys",
                code="origin_not_allowed",
            )

    def _is_known(self, host: str) -> bool:
        known = self._known.get(host)
        if known is None:
            known = self._any_host or not host or self._is_served(_normal(host))
            if len(self._known) < _MOST_KNOWN:
                self._known[host] = known
        return known

    def _is_served(self, name: str) -> bool:
        """An address is one: a page that was loaded from there is the server's own."""
        return name in {"localhost", self._own, *self._hosts} or name.endswith(".localhost") or _is_address(name)

    def _is_own(self, origin: str, host: str) -> bool:
        _, scheme, authority = origin.partition("://")
        return bool(scheme) and (authority.lower() == host.lower() or _normal(authority) in self._hosts)


def _normal(authority: str) -> str:
    """The host of ``host:port``, as it is compared; empty for what is none."""
    found = _AUTHORITY.fullmatch(authority)
    return found[1].strip("[]").rstrip(".").lower() if found else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
