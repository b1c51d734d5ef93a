"""GLM-4.5 to GLM-5.2."""

from tests.materials import GLM5
from tests.renderers.subjects.subject import Limits, Subject

_SILENT = {"enable_thinking": False}
_KEPT = {"clear_thinking": False}
_LIMITS = Limits()


def _subject(name: str, family: str, template: str, **options: object) -> Subject:
    return Subject(name, family, GLM5, template, options, options, limits=_LIMITS)


SUBJECTS = (
    _subject("glm-4.5", "glm-4.5", "zai-org-GLM-4.5-Air"),
    _subject("glm-4.5, unsloth", "glm-4.5", "unsloth-GLM-4.5-Air"),
    _subject("glm-4.6", "glm-4.5", "GLM-4.6"),
    _subject("glm-4.6, thinking off", "glm-4.5", "GLM-4.6", **_SILENT),
    _subject("glm-4.7", "glm-4.7", "GLM-4.7-Flash"),
    _subject("glm-4.7, thoughts kept", "glm-4.7", "GLM-4.7-Flash", **_KEPT),
    _subject("glm-5", "glm-4.7", "zai-org-GLM-5"),
    _subject("glm-5, thinking off", "glm-4.7", "zai-org-GLM-5", **_SILENT),
    _subject("glm-5.1", "glm-5.1", "zai-org-GLM-5.1"),
    _subject("glm-5.1, thoughts kept", "glm-5.1", "zai-org-GLM-5.1", **_KEPT),
    _subject("glm-5.1, thinking off", "glm-5.1", "zai-org-GLM-5.1", **_SILENT),
    _subject("glm-5.2", "glm-5.2", "zai-org-GLM-5.2"),
    _subject("glm-5.2, less effort", "glm-5.2", "zai-org-GLM-5.2", reasoning_effort="high", **_KEPT),
    _subject("glm-5.2, thinking off", "glm-5.2", "zai-org-GLM-5.2", **_SILENT),
)
