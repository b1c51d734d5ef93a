"""What rendering can answer instead of a prompt."""


class RenderError(ValueError):
    """Messages that this model's format cannot express; the text says which and why."""


class BridgeRefused(Exception):
    """The next turn cannot be proven to extend the last one's tokens; the text says why."""
