"""Messages to token ids and back, for one model at a time."""

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
