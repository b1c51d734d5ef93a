"""Keys: 256 random bits each, shown once, kept as a hash.

The hash is SHA-256, not one that is slow on purpose: such a one protects what people choose, where a thief tries likely
passwords. Of 2**256 equally likely keys none is worth trying, and a slow hash would let anybody keep a server busy by
sending wrong keys.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from tickertape.server.auth.access import Role

PREFIX = "tt-"
_HASHED = "sha256:"
_HASH = re.compile(r"[0-9a-f]{64}")
#: Below this a configured key could be guessed, and a hash of it reversed.
SHORTEST = 20


@dataclass(frozen=True, slots=True)
class ConfiguredKey:
    """A key from the settings."""

    role: Role
    digest: str

    @property
    def id(self) -> str:
        """The same on every replica that has this key."""
        return f"cfg{self.digest[:9]}"


def new_key(role: Role) -> str:
    """A key that scanners for secrets can know: ``tt-admin-`` and 64 hexadecimal digits."""
    return f"{PREFIX}{role}-{secrets.token_hex(32)}"


def new_id() -> str:
    """An id for a key; not secret."""
    return secrets.token_hex(6)


def digest_of(key: str) -> str:
    """Returns what is kept of a key: SHA-256, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_same(one: str, other: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def hash_of(configured: str) -> str:
    """The hash of a key as the settings have it: the key itself, or ``sha256:`` and its hash.

    Raises:
        ValueError: it is no hash, or too short. The text does not hold it.
    """
    if configured.startswith(_HASHED):
        digest = configured.removeprefix(_HASHED).lower()
        if not _HASH.fullmatch(digest):
            raise ValueError("after sha256: there must be 64 hexadecimal digits")
        return digest
    is_plain = configured.isascii() and configured.isprintable() and " " not in configured
    if len(configured) < SHORTEST or not is_plain:
        raise ValueError(f"an API key has {SHORTEST} printable ASCII characters or more, and no space")
    return digest_of(configured)
