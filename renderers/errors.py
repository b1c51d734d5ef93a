"""Errors that loading and rendering can answer instead of a tokenizer or a prompt."""


class RenderError(ValueError):
    """Messages that this model's format cannot express; the text says which and why."""


class TokenizerError(ValueError):
    """A tokenizer that cannot be loaded, or a text that it cannot encode safely."""


class BridgeRefused(Exception):
    """The next turn cannot be proven to extend the last one's tokens; the text says why."""
