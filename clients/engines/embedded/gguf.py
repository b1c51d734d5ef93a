"""A tokenizer built from a GGUF file's own metadata: vocabulary, merges, split rule and chat template are all in it.

Built are byte-level BPE vocabularies (``tokenizer.ggml.model = gpt2``), which nearly all current open models use, and
Gemma 4's BPE of characters (``gemma4``). The split rule of the former is named by ``tokenizer.ggml.pre``; the patterns
are those of llama.cpp (``src/llama-vocab.cpp``). The embedded engine compares the result with llama.cpp's own
tokenisation before it serves.
"""

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tickertape.clients.engines.embedded.gguf_metadata import read_metadata
from tickertape.renderers.errors import TokenizerError
from tickertape.renderers.fast_bpe import GPT2_PATTERN
from tickertape.renderers.tokenizer import Tokenizer

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
#: ``tokenizer.ggml.pre`` to the patterns that split text, one after the other.
_SPLITS: dict[str, tuple[str, ...]] = {
    "gpt-2": (GPT2_PATTERN,),
    "llama-bpe": (_LLAMA3,),
    "qwen2": (_QWEN2,),
    "qwen35": (_QWEN35,),
    "smollm": (r"\p{N}", GPT2_PATTERN),
    "starcoder": (r"\p{N}", GPT2_PATTERN),
}

_CONTROL, _USER_DEFINED = 3, 4  # gguf.TokenType


def tokenizer_from_gguf(path: str | Path) -> Tokenizer:
    """The tokenizer of a GGUF model.

    Raises:
        TokenizerError: no GGUF file, or a kind of vocabulary that is not built here; the text says which ones are.
    """
    try:
        fields = read_metadata(path)
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path} cannot be read as a GGUF model: {error}") from error

    def value(key: str, default: Any = None) -> Any:
        return fields.get(key, default)

    kind, split = value("tokenizer.ggml.model"), value("tokenizer.ggml.pre", "gpt-2")
    if kind != "gemma4" and (kind != "gpt2" or split not in _SPLITS):
        raise TokenizerError(
            f"{path}: its vocabulary is {kind!r} with the split rule {split!r}; built from metadata are 'gemma4' and "
            f"'gpt2' with {', '.join(sorted(_SPLITS))}. Give the model's own tokenizer with "
            "--model HUB_NAME|TOKENIZER_DIR"
        )
    tokens: list[str] = value("tokenizer.ggml.tokens")
    types: list[int] = value("tokenizer.ggml.token_type")
    added = [i for i, token_type in enumerate(types) if token_type in (_CONTROL, _USER_DEFINED)]
    merges: list[str] = value("tokenizer.ggml.merges")
    backend = _gemma4(tokens, merges) if kind == "gemma4" else _byte_level_bpe(tokens, merges, split)
    backend.add_tokens(
        [tokenizers.AddedToken(tokens[i], special=types[i] == _CONTROL, normalized=False) for i in added]
    )
    special = {
        f"{name}_token": tokens[i]
        for name in ("bos", "eos")
        if (i := value(f"tokenizer.ggml.{name}_token_id")) is not None
    }
    return Tokenizer(
        backend,
        chat_template=value("tokenizer.chat_template"),
        special_tokens=special,
        name=value("general.name", Path(path).stem),
    )


def _byte_level_bpe(tokens: list[str], merges: list[str], split: str) -> tokenizers.Tokenizer:
    pairs = [(left, right) for left, right in (merge.split(" ", 1) for merge in merges)]
    vocab = {token: i for i, token in enumerate(tokens)}
    # Llama 3 takes a whole split as one token where the vocabulary has it, merges or not.
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=split == "llama-bpe"))
    splits = [pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated") for pattern in _SPLITS[split]]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _gemma4(tokens: list[str], merges: list[str]) -> tokenizers.Tokenizer:
    """Characters that merge across words, white space included; what no merge covers falls back to bytes."""
    pairs = [(merge[:cut], merge[cut + 1 :]) for merge in merges for cut in [merge.index(" ", 1)]]
    vocab = {token: i for i, token in enumerate(tokens)}
    unknown = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=pairs, **unknown))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"\n+"), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend
