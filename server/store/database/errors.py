"""What can go wrong with a tape."""


class StoreError(Exception):
    """The tape cannot be written or read."""


class StoreUnavailable(StoreError):
    """The tape as a whole, whatever was to be read or written: it may be possible later."""


class NotHoldable(StoreError):
    """A value is none that this database can hold."""


class Contended(StoreUnavailable):
    """Two transactions were in each other's way, and this one was undone: the same again may pass."""
