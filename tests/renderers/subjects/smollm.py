"""SmolLM2, whose tokenizer and template come out of its GGUF file, and SmolLM3."""

from tests.materials import SMOLLM2 as SMOLLM2_VOCABULARY
from tests.renderers.subjects.hermes import LLAMA3_CHATML
from tests.renderers.subjects.subject import TODAY, Limits, Subject

SMOLLM2 = "chatml, SmolLM2"
SMOLLM3 = "smollm3"
SMOLLM3_SILENT = "smollm3, thinking off"
SMOLLM3_UNDATED = "smollm3-undated"

_ON_THAT_DAY = {"today": f"{TODAY:%d %B %Y}"}
_SILENT = {"enable_thinking": False}


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
    Subject(SMOLLM3, SMOLLM3, LLAMA3_CHATML, "HuggingFaceTB-SmolLM3-3B@3e0e27", _ON_THAT_DAY),
    Subject(
        SMOLLM3_SILENT,
        SMOLLM3,
        LLAMA3_CHATML,
        "HuggingFaceTB-SmolLM3-3B@3e0e27",
        _ON_THAT_DAY | _SILENT,
        _SILENT,
    ),
    Subject(SMOLLM3_UNDATED, SMOLLM3_UNDATED, LLAMA3_CHATML, "HuggingFaceTB-SmolLM3-3B", limits=Limits(tools=False)),
)
