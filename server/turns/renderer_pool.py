"""The model's renderer, once for each set of template options that requests bring."""

from functools import cached_property
from typing import Any

from tickertape.renderers.choose import Choice, get_renderer
from tickertape.renderers.renderer import Renderer
from tickertape.server.errors import InvalidRequest
from tickertape.server.trajectories.matching import value_digest
from tickertape.server.turns.request import Thinking
from tickertape.server.turns.template_options import check_options
from tickertape.server.turns.thinking import ThinkingSwitch

_MOST = 64


class RendererPool:
    """Renderers of one model.

    Args:
        choice: the renderer without options, as it was chosen at start-up.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.tokenizer = choice.renderer.tokenizer
        self._by_options: dict[str, Renderer] = {"": choice.renderer}

    def get(self, options: dict[str, Any]) -> Renderer:
        """The renderer for ``chat_template_kwargs``.

        Raises:
            InvalidRequest: the model's format has no such option.
        """
        digest = value_digest(options)
        renderer = self._by_options.get(digest)
        if renderer is None:
            check_options(self.choice.renderer, options)
            try:
                renderer = get_renderer(self.choice.name, self.tokenizer, **{**self.choice.options, **options})
            except ValueError as error:
                raise InvalidRequest(str(error), param="chat_template_kwargs") from error
            if len(self._by_options) < _MOST:
                self._by_options[digest] = renderer
        return renderer

    def with_thinking(self, options: dict[str, Any], wanted: Thinking | None) -> dict[str, Any]:
        """Template options under which the model thinks, or does not.

        Raises:
            InvalidRequest: it cannot.
        """
        return options if wanted is None else {**options, **self._switch.options(wanted)}

    @cached_property
    def _switch(self) -> ThinkingSwitch:
        return ThinkingSwitch(self.get)
