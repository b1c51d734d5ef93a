"""MiniMax M2 to M2.7."""

from tests.materials import borrowed
from tests.renderers.subjects.subject import Limits, Subject

_VOCABULARY = borrowed(
    (
        *("]!p~[", "<fim_prefix>", "]!d~[", "]~b]", "[e~[", "]~!b["),
        *("<think>", "</think>", "<minimax:tool_call>", "</minimax:tool_call>"),
    ),
    bos_token="]~!b[",
    eos_token="[e~[",
)
_LIMITS = Limits(order="results_after_calls")


def _subject(version: str, template: str, default_system: str) -> Subject:
    options = {"default_system": default_system}
    return Subject(f"minimax-{version}", "minimax-m2", _VOCABULARY, template, options, limits=_LIMITS)


def _named(version: str) -> str:
    return f"You are a helpful assistant. Your name is MiniMax-{version.upper()} and is built by MiniMax."


SUBJECTS = (
    Subject("minimax-m2", "minimax-m2", _VOCABULARY, "MiniMaxAI-MiniMax-M2", limits=_LIMITS),
    _subject("m2, unsloth", "MiniMax-M2", "You are a helpful assistant."),
    *(
        _subject(version, f"MiniMaxAI-MiniMax-{version.upper()}", _named(version))
        for version in ("m2.1", "m2.5", "m2.7")
    ),
)
