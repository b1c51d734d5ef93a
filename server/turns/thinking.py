"""The switch of whether a model thinks before it answers, where its format has a switch for it.

Formats call the switch by different names. Which one a model has is not looked up but tried: it is the one that changes
how a prompt ends.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tickertape.renderers.errors import RenderError
from tickertape.renderers.messages import Message
from tickertape.renderers.renderer import Renderer
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import Thinking

_HELLO = (Message("user", "Hello."),)
#: Options that turn thinking on, and off.
_SWITCHES: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...] = (
    ({"enable_thinking": True}, {"enable_thinking": False}),
    ({"thinking": True}, {"thinking": False}),
    ({"thinking_mode": "thinking"}, {"thinking_mode": "chat"}),
)


class ThinkingSwitch:
    """A model's switch.

    Args:
        get: the model's renderer for given template options.
    """

    def __init__(self, get: Callable[[dict[str, Any]], Renderer]) -> None:
        self.thinks = get({}).response_format.thinks
        self._usual = opening(get, {})
        self._states: dict[str, tuple[Mapping[str, Any], list[int]]] = {}
        for on, off in _SWITCHES:
            opened, closed = opening(get, on), opening(get, off)
            if opened is not None and closed is not None and opened != closed:
                self._states = {"on": (on, opened), "off": (off, closed)}
                break

    @property
    def is_there(self) -> bool:
        """Returns True if the model has one."""
        return bool(self._states)

    def options(self, wanted: Thinking) -> Mapping[str, Any]:
        """The template options for it; none where the model does so anyway.

        Raises:
            InvalidRequest: the model cannot think, or cannot be kept from it.
        """
        if wanted == "on" and not self.thinks:
            raise _cannot("this model does not think")
        state = self._states.get("off" if wanted == "off" else "on")
        if state is None:
            if wanted == "off" and self.thinks:
                raise _cannot("this model's format has no switch that turns thinking off")
            return {}
        options, prompt = state
        return {} if prompt == self._usual else options


def opening(get: Callable[[dict[str, Any]], Renderer], options: Mapping[str, Any]) -> list[int] | None:
    """A prompt under these options; ``None`` where the format does not know them, or has no such prompt."""
    try:
        return list(get(dict(options)).build_generation_prompt(_HELLO).token_ids)
    except (InvalidRequest, RenderError):
        return None


def _cannot(why: str) -> InvalidRequest:
    return InvalidRequest(f"thinking cannot be honoured: {why}", param="thinking", code="unsupported_value")
