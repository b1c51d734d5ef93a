"""The structure that ``response_format``, ``tool_choice`` and ``parallel_tool_calls`` ask of a completion.

Engines hold to it by guided decoding. What cannot be held to is refused by name.

A model that thinks first may think first: its thought is part of the structure, and free. Where the prompt has closed
the thought, or the model has none, the structure begins at once. It ends where the turn does, so that after it nothing
but a stop token can be sampled.
"""

import re
from collections.abc import Sequence

from tickertape.clients.engines.engine import EngineInfo, Feature, Structure, StructureKind
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.shape import CallsShape, Either, Json, Matching, Repeated, Shape
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.request import TurnRequest
from tickertape.server.turns.structure_format import structural_tag

_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}/-]")
#: Names that are written the same in every format: no quotes, no tags.
_PLAIN_NAME = re.compile(r"[\w.:/-]{1,256}")


def structure_of(
    request: TurnRequest, renderer: Renderer, prompt_end: Sequence[int], info: EngineInfo
) -> Structure | None:
    """Returns what the engine is to hold the completion to; ``None`` where the model writes what it likes.

    Args:
        request: what the client asked for.
        renderer: whose format the completion is in.
        prompt_end: the prompt, or the last tokens of it: whether it leaves a thought open.
        info: what the engines can do.

    Raises:
        InvalidRequest: the engines, the model's format or another field of the request stand against it.
    """
    choice = request.tool_choice
    may_call = bool(request.tools) and choice.reads_calls
    if request.response_format is None and (choice.is_free or not may_call):
        return None
    param = _param(request)
    _check_possible(request, info, param)
    return _structure(request, renderer, prompt_end, param)


def _param(request: TurnRequest) -> str:
    """The field that asks for most."""
    if request.tool_choice.must_call:
        return "tool_choice"
    return "parallel_tool_calls" if request.response_format is None else request.format_param


def _check_possible(request: TurnRequest, info: EngineInfo, param: str) -> None:
    if Feature.STRUCTURE not in info.features:
        raise _cannot(param, f"the engine ({info.name}) has no guided decoding")
    if request.continues:
        raise _cannot(param, "an answer that is gone on with cannot be held to a structure that it began without")
    for name, given in (("ignore_eos", request.sampling.ignore_eos), ("min_tokens", request.sampling.min_tokens)):
        if given:
            raise _cannot(param, f"{name} has the model go on where the structure has ended")


def _structure(request: TurnRequest, renderer: Renderer, prompt_end: Sequence[int], param: str) -> Structure:
    format_, choice = renderer.response_format, request.tool_choice
    thought = format_.thought_shape(renderer.thought_at(prompt_end))
    calls = _calls(request, format_, param) if request.tools and choice.reads_calls else []
    answer: Shape | None
    if choice.must_call:
        answer = _called(format_, calls, parallel=choice.parallel)
    elif request.response_format is None:
        answer = format_.shape_with_one_call(_once(format_, calls))
        if answer is None:
            raise _cannot(param, "this model's calls begin like any other words, so that they cannot be counted")
    else:
        asked = _asked(request.response_format)
        content = format_.content_shape(asked)
        if not calls and content == asked and not thought:
            return request.response_format  # which more engines, and more of their grammars, know
        if not asked:
            why = f"a {request.response_format.kind.value} is of the whole answer: no thought, and no call beside it"
            raise _cannot(param, why)
        answer = (Either((content, _called(format_, calls, parallel=choice.parallel))),) if calls else content
    return Structure(StructureKind.STRUCTURAL_TAG, structural_tag((*thought, *answer), renderer.tokenizer))


def _asked(asked: Structure) -> Shape:
    """Returns what the content is to be; nothing where only the engine can say."""
    match asked.kind:
        case StructureKind.JSON_OBJECT:
            return (Json({"type": "object"}),)
        case StructureKind.JSON_SCHEMA:
            return (Json(asked.value),)
        case StructureKind.REGEX:
            return (Matching(asked.value),)
        case StructureKind.CHOICE:
            # As patterns: a string of a shape may spell control tokens, which a client's must not.
            return (Matching("|".join(_SPECIAL.sub(r"\\\g<0>", each) for each in asked.value)),)
    return ()


def _calls(request: TurnRequest, format_: ResponseFormat, param: str) -> list[CallsShape]:
    """Returns how each tool that may be called is called."""
    shapes = []
    for tool in request.tools or ():
        function = tool["function"]
        name = function["name"]
        if request.tool_choice.names and name not in request.tool_choice.names:
            continue
        if not _PLAIN_NAME.fullmatch(name):
            raise _cannot(param, f"a tool is called {name!r:.80}, and calls are guided for plain names only")
        shape = format_.calls_shape(name, {"type": "object", **(function.get("parameters") or {})})
        if shape is None:
            raise _cannot(param, f"no grammar is known for how this model writes calls of {name}")
        shapes.append(shape)
    return shapes


def _called(format_: ResponseFormat, calls: Sequence[CallsShape], *, parallel: bool) -> Shape:
    """One call at least, and one only unless they may be ``parallel``. What stands around calls is the same for all
    tools."""
    any_call, first = Either(tuple(each.call for each in calls)), calls[0]
    more: Shape = ()
    if parallel and first.between is not None:
        more = (Repeated((first.between, any_call)),)
    return (*format_.calls_lead, first.before, any_call, *more, first.after + format_.behind_calls)


def _once(format_: ResponseFormat, calls: Sequence[CallsShape]) -> list[Shape]:
    """Each call alone, with all that stands around it."""
    return [_joined((each.before, *each.call, each.after + format_.behind_calls)) for each in calls]


def _joined(shape: Shape) -> Shape:
    """The same with its leading strings in one."""
    texts = 0
    while texts < len(shape) and isinstance(shape[texts], str):
        texts += 1
    return ("".join(str(part) for part in shape[:texts]), *shape[texts:])


def _cannot(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{param} cannot be honoured: {why}", param=param, code="unsupported_value")
