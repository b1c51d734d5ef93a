"""Session keys: signed, so that a sandboxed agent can hold one and reach its own session with it, and no other.

``tt-session-`` and what ``itsdangerous`` makes of ``[session id, expiry, generation]``: URL-safe base64 of the JSON, a
dot, URL-safe base64 of HMAC-SHA256 under a key that is derived, by HMAC too, from the tape's secret. Nothing of it is
stored: every replica that has the secret can tell. The generation is a fingerprint of the secret, so that a key from
before a rotation is told from a forged one.
"""

import hashlib
import hmac
import time
from dataclasses import dataclass

from itsdangerous import BadData, BadSignature, URLSafeSerializer

from tickertape.server.auth.keys import PREFIX
from tickertape.server.errors import Unauthenticated

SESSION_PREFIX = f"{PREFIX}session-"
_SALT = "tickertape session key"
#: Bytes of a secret that is made here, and characters at least of one that is configured.
SECRET_SIZE = 32
LONGEST_LIFE = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A key that was made."""

    session_id: str
    key: str
    expires_at: float
    """Seconds since the epoch."""


class SessionKeys:
    """Makes and checks them, under one secret."""

    def __init__(self, secret: bytes) -> None:
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._serializer = URLSafeSerializer(secret, salt=_SALT, signer_kwargs=options)
        self._generation = hmac.digest(secret, b"generation", "sha256")[:4].hex()

    def make(self, session_id: str, expires_in: float) -> SessionKey:
        """A key for one session, for so many seconds."""
        expires_at = int(time.time() + expires_in)
        signed = self._serializer.dumps([session_id, expires_at, self._generation])
        return SessionKey(session_id, SESSION_PREFIX + str(signed), float(expires_at))

    def session_of(self, key: str) -> str:
        """The session that a key is for.

        Raises:
            Unauthenticated: it is not from here, or not valid any more; the text says why, and does not hold it.
        """
        signed = key.removeprefix(SESSION_PREFIX)
        try:
            session_id, expires_at, _ = self._serializer.loads(signed)
        except BadSignature:
            raise Unauthenticated(self._why_not(signed)) from None
        except (BadData, ValueError, TypeError):
            raise Unauthenticated("the session key cannot be read: it is cut short, or was never one") from None
        if time.time() >= expires_at:
            ago = int(time.time() - expires_at)
            raise Unauthenticated(f"the session key expired {ago} seconds ago: the trainer must make a new one")
        return str(session_id)

    def _why_not(self, signed: str) -> str:
        """What a key claims of itself is not to be trusted, but tells an honest holder what happened."""
        valid, claimed = self._serializer.loads_unsafe(signed)
        if not valid and isinstance(claimed, list) and len(claimed) == 3 and claimed[2] != self._generation:
            return "the session key was signed with another secret: it was rotated since, or this is another server"
        return "the session key's signature is wrong: it was changed, or not made here"
