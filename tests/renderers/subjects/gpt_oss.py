"""gpt-oss on its own vocabulary, with the templates of three repositories."""

from tests.materials import GPT_OSS as GPT_OSS_VOCABULARY
from tests.renderers.subjects.subject import SCHEMAS, TODAY, Conversation, Deviation, Limits, Subject
from tickertape.renderers.harmony import HEADER

GPT_OSS = "gpt-oss"
GPT_OSS_SAFEGUARD = "gpt-oss-safeguard"
GPT_OSS_UNSLOTH = "gpt-oss-unsloth"
GPT_OSS_WITH_OPTIONS = "gpt-oss, every option"


def _thinks_or_speaks_before_calls(conversation: Conversation) -> bool:
    """The template refuses both at once."""
    return not any(
        message.get("tool_calls") and message["content"] and message.get("reasoning_content")
        for message in conversation.messages
    )


_LIMITS = Limits(
    parallel=False,  # the template shows the first call of a message only
    order="results_after_calls",
    schemas=SCHEMAS - {"bare"},
    expresses=_thinks_or_speaks_before_calls,
)


def _has_arguments_as_text(conversation: Conversation) -> bool:
    calls = [call for message in conversation.messages for call in message.get("tool_calls", ())]
    return any(isinstance(call["function"]["arguments"], str) for call in calls)


_ARGUMENTS_AS_JSON = Deviation(
    "arguments-as-json",
    "arguments that come as JSON text are written as they are; the template quotes them once more",
    "test_arguments_that_are_json_text_are_not_quoted_again",
    _has_arguments_as_text,
)
_DATED = {"current_date": TODAY.isoformat()}
_OPTIONS = {"reasoning_effort": "high", "model_identity": "You are Köln.", "builtin_tools": ["python", "browser"]}


def _subject(name: str, family: str, template: str, **options: object) -> Subject:
    return Subject(
        name,
        family,
        GPT_OSS_VOCABULARY,
        template,
        {**_DATED, **options},
        options,
        _LIMITS,
        deviations=() if family == "gpt-oss-unsloth" else (_ARGUMENTS_AS_JSON,),
        own_words=(HEADER.pattern,),
    )


SUBJECTS = (
    _subject(GPT_OSS, "gpt-oss", "openai-gpt-oss-120b"),
    _subject(GPT_OSS_WITH_OPTIONS, "gpt-oss", "openai-gpt-oss-120b", **_OPTIONS),
    _subject(GPT_OSS_SAFEGUARD, "gpt-oss-safeguard", "openai-gpt-oss-safeguard-20b"),
    _subject(GPT_OSS_UNSLOTH, "gpt-oss-unsloth", "unsloth-gpt-oss-20b"),
)
