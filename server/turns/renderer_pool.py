"""The model's renderer, once for each set of template options that requests bring."""

from functools import cached_property
from typing import Any

from tickertape.renderers.choose import Choice, get_renderer
from tickertape.renderers.renderer import Renderer
from tickertape.server.errors import InvalidRequest
from tickertape.server.trajectories.matching import value_digest
from tickertape.server.turns.request import Thinking
from tickertape.server.turns.template_options import check_options
from tickertape.server.turns.thinking import ThinkingSwitch, opening

_MOST = 64
#: What formats call it that have levels of thinking.
EFFORT_OPTION = "reasoning_effort"
#: Efforts that mean that the model is not to think.
_NO_EFFORT = ("none", "minimal")


class RendererPool:
    """Renderers of one model.

    Args:
        choice: the renderer without options, as it was chosen at start-up.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.tokenizer = choice.renderer.tokenizer
        self._by_options: dict[str, Renderer] = {"": choice.renderer}
        self._efforts: dict[str, bool] = {}

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

    def with_effort(self, options: dict[str, Any], effort: str, *, may_switch: bool) -> dict[str, Any] | None:
        """Template options under which the model thinks as hard as a client wishes; ``None`` where it has no word for
        that.

        Args:
            options: what else is set, which goes first.
            effort: the client's word.
            may_switch: whether an effort of nothing may turn thinking off.
        """
        wants_off = effort in _NO_EFFORT and may_switch
        if wants_off and self._switch.is_there:
            return {**self._switch.options("off"), **options}
        wished = {EFFORT_OPTION: effort}
        known = self._efforts.get(effort)
        if known is None:
            known = opening(self.get, wished) is not None
            if len(self._efforts) < _MOST:
                self._efforts[effort] = known
        if known:
            return {**wished, **options}
        return options if wants_off and not self._switch.thinks else None

    @cached_property
    def _switch(self) -> ThinkingSwitch:
        return ThinkingSwitch(self.get)
