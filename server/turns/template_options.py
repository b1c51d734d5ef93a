"""Which options of the model's format a request may set (``chat_template_kwargs``).

Only those that a family or a template declares: what else its constructor takes, such as a tokenizer, is not a client's
to choose. And none that spells a control token: templates print options as words of their own (NO-FORGERY).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tickertape.renderers.renderer import Renderer
from tickertape.server.errors import InvalidRequest

_PARAM = "chat_template_kwargs"


def check_options(renderer: Renderer, options: Mapping[str, Any]) -> None:
    """
    Args:
        renderer: of the model, with any options.
        options: by name.

    Raises:
        InvalidRequest: the format has no such option, or not with such a value.
    """
    declared = renderer.client_options
    for name, value in options.items():
        if name not in declared:
            known = f"it has {', '.join(declared)}" if declared else "it has none"
            raise _refused(name, f"this model's chat format has no option of that name; {known}")
        try:
            TypeAdapter(declared[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise _refused(name, error.errors(include_url=False)[0]["msg"]) from error
        for text in _texts(value):
            if spelled := next((token for token in renderer.tokenizer.control if token in text), None):
                raise _refused(name, f"it must not hold {spelled!r}, which is a control token of this model")


def _texts(value: Any) -> Iterator[str]:
    """Texts in a JSON value, of which a request has not many levels."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _refused(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{_PARAM}.{name}: {why}"[:1000], param=_PARAM, code="unsupported_value")
