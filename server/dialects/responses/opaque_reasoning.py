"""Reasoning as ``encrypted_content``: opaque to clients, which send it back with the next request.

It is not encrypted: whoever runs this server shows the agent its reasoning anyway. A digest tells damage, and what
another server has encoded, from our own.
"""

import base64
import binascii
import hashlib

_MARK = "tickertape1."
_DIGEST_BYTES = 16


def encode(reasoning: str) -> str:
    """The reasoning as ``encrypted_content``."""
    text = reasoning.encode()
    return _MARK + base64.urlsafe_b64encode(_digest(text) + text).decode()


def decode(encoded: str) -> str:
    """
    Raises:
        ValueError: :func:`encode` has not written it, or not like this.
    """
    if not encoded.startswith(_MARK):
        raise ValueError("it was not written by this server")
    try:
        packed = base64.b64decode(encoded[len(_MARK) :], altchars=b"-_", validate=True)
        text = packed[_DIGEST_BYTES:].decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("it is damaged") from error
    if packed[:_DIGEST_BYTES] != _digest(text.encode()):
        raise ValueError("it is damaged")
    return text


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, person=b"tickertape").digest()
