"""The check that a server may listen where it is set to."""

import socket
from ipaddress import ip_address

from tickertape.server.auth.keyring import Keyring
from tickertape.server.settings import AuthMode, Settings, SettingsError
from tickertape.server.store.database import shown_place

_ADVICE = (
    "make a key first (tickertape keys create --role admin --name NAME --db {db}), or set one (TICKERTAPE_ADMIN_KEY, or"
    " a file of secrets); or ask for keys whatever there is (--auth required); or listen on 127.0.0.1; or, where the"
    " network itself keeps others out, say so (--insecure-public)"
)


async def check_exposure(settings: Settings, keyring: Keyring) -> None:
    """
    Raises:
        SettingsError: other machines would reach this server, and it asks no caller for a key.
    """
    if settings.insecure_public or is_loopback(settings.host) or await keyring.is_on():
        return
    why = "auth is off" if settings.auth is AuthMode.OFF else "there is no API key yet"
    advice = _ADVICE.format(db=shown_place(settings.db))
    raise SettingsError(
        f"host {settings.host} is reached by other machines, and {why}, so that anybody could read the tape: {advice}"
    )


def is_loopback(host: str) -> bool:
    """Returns True if this machine alone reaches an address. A name that cannot be resolved is not such an address."""
    try:
        found = socket.getaddrinfo(host or None, None, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
