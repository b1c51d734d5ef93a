"""Session keys: signed, so that a sandboxed agent can hold one and reach its own session with it, and no other.

``tt-session-``, the generation, a dash, and what ``itsdangerous`` makes of ``[session id, expiry]``: URL-safe base64
of the JSON, a dot, URL-safe base64 of HMAC-SHA256 under a key that is derived, by HMAC too, from the tape's secret.
Nothing of it is stored: every replica that has the secret can verify it. The generation is a fingerprint of the
secret, by which a key from before a rotation is distinguished from a forged one. Nothing else of a key is looked at
before its signature has been verified: what ``itsdangerous`` packs may be compressed, and a forged key would be
inflated.
"""

import hashlib
import hmac
import re
import time
from dataclasses import dataclass

from itsdangerous import BadSignature, URLSafeSerializer

from tickertape.server.auth.keys import PREFIX
from tickertape.server.errors import Unauthenticated

SESSION_PREFIX = f"{PREFIX}session-"
_SALT = "tickertape session key"
#: Bytes of a secret that is made here, and characters at least of one that is configured.
SECRET_SIZE = 32
LONGEST_LIFE = 30 * 86400.0
#: Generation, and what was signed with its signature. Session ids have at most 128 characters.
KEY_FORM = re.compile(re.escape(SESSION_PREFIX) + r"([0-9a-f]{8})-([A-Za-z0-9._-]{1,400})")


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
        signed = str(self._serializer.dumps([session_id, expires_at]))
        return SessionKey(session_id, f"{SESSION_PREFIX}{self._generation}-{signed}", float(expires_at))

    def session_of(self, key: str) -> str:
        """The session that a key is for.

        Raises:
            Unauthenticated: it is not from here, or not valid any more; the text says why, and does not hold it.
        """
        found = KEY_FORM.fullmatch(key)
        if found is None:
            raise Unauthenticated("the session key cannot be read: it is cut short, or was never one")
        generation, signed = found.groups()
        if generation != self._generation:
            raise Unauthenticated(
                "the session key was signed with another secret: it was rotated since, or this is another server"
            )
        try:
            session_id, expires_at = self._serializer.loads(signed)
        except BadSignature:
            raise Unauthenticated("the session key's signature is wrong: it was changed, or not made here") from None
        if time.time() >= expires_at:
            ago = int(time.time() - expires_at)
            raise Unauthenticated(f"the session key expired {ago} seconds ago: the trainer must make a new one")
        return str(session_id)
