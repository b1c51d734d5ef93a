"""Messages to token ids and back, for one model at a time.

Names are imported when they are asked for: a command line that only lists its options needs no tokenizer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tickertape.renderers.choose import Choice, choose_renderer, get_renderer, renderer_for
    from tickertape.renderers.colorize import format_colorized
    from tickertape.renderers.errors import BridgeRefused, RenderError, TokenizerError
    from tickertape.renderers.messages import Message, Tool, ToolCall
    from tickertape.renderers.pieces import Kind
    from tickertape.renderers.prompt import CallStatus, ParsedCall, ParsedResponse, Prompt
    from tickertape.renderers.renderer import Renderer
    from tickertape.renderers.supervised import TrainOn
    from tickertape.renderers.tokenizer import Tokenizer

__all__ = [
    "BridgeRefused",
    "CallStatus",
    "Choice",
    "Kind",
    "Message",
    "ParsedCall",
    "ParsedResponse",
    "Prompt",
    "RenderError",
    "Renderer",
    "Tokenizer",
    "TokenizerError",
    "Tool",
    "ToolCall",
    "TrainOn",
    "choose_renderer",
    "format_colorized",
    "get_renderer",
    "renderer_for",
]

_PLACES = {
    "choose": (
        "Choice",
        "choose_renderer",
        "get_renderer",
        "renderer_for",
    ),
    "colorize": ("format_colorized",),
    "errors": (
        "BridgeRefused",
        "RenderError",
        "TokenizerError",
    ),
    "messages": (
        "Message",
        "Tool",
        "ToolCall",
    ),
    "pieces": ("Kind",),
    "prompt": (
        "CallStatus",
        "ParsedCall",
        "ParsedResponse",
        "Prompt",
    ),
    "renderer": ("Renderer",),
    "supervised": ("TrainOn",),
    "tokenizer": ("Tokenizer",),
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
