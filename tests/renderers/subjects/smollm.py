"""SmolLM2, whose tokenizer and template come out of its GGUF file; the template shows neither tools nor calls."""

from tests.materials import SMOLLM2 as SMOLLM2_VOCABULARY
from tests.renderers.subjects.subject import Limits, Subject

SMOLLM2 = "chatml, SmolLM2"


def _template() -> str:
    source = SMOLLM2_VOCABULARY.tokenizer.chat_template
    assert source is not None
    return source


SUBJECTS = (
    Subject(
        SMOLLM2,
        "chatml",
        SMOLLM2_VOCABULARY,
        _template,
        family_options={"default_system": "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
        limits=Limits(tools=False, calls=False, reasoning=False),
    ),
)
