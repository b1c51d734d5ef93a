"""Errors of a tape."""

from collections.abc import Mapping

from tickertape.server.errors import ProxyError


class StoreError(ProxyError):
    """The tape cannot be written or read."""

    status = 503
    code = "tape_unavailable"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class StoreUnavailable(StoreError):
    """The tape as a whole, whatever was to be read or written: it may be possible later."""


class NotHoldable(StoreError):
    """A value is none that this database can hold."""


class Contended(StoreUnavailable):
    """Two transactions were in each other's way, and this one was undone: the same again may pass."""
