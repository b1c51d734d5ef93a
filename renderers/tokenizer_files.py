"""A model's directory read without ``transformers``, which alone takes 1.7 s to import and to read a large vocabulary.

``transformers`` does more than read files: it rebuilds some classes by rules of its own, and adds tokens that only the
configuration names. Here a directory is read only where all that comes to nothing; every other one is left to it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import tokenizers
from tokenizers import models

from tickertape.renderers.kimi_files import read_kimi
from tickertape.renderers.vocabulary import rules_of

#: Of ``tokenizer_class`` in ``tokenizer_config.json``: those that are their ``tokenizer.json``.
_GENERIC = {"PreTrainedTokenizerFast", "TokenizersBackend"}
#: Those whose rules ``transformers`` writes itself (``models/qwen2/tokenization_qwen2.py``): NFC,
#: :data:`_QWEN_SPLITS`, and ByteLevel's decoder.
_QWEN = {"Qwen2Tokenizer", "Qwen2TokenizerFast"}
#: ``model_type`` in ``config.json`` for which ``transformers`` keeps to ``tokenizer_class``, and patches nothing.
_MODELS = {None, "llama", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "gpt_oss"}
_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_SPLITS = [
    {"type": "Split", "pattern": {"Regex": _QWEN_PATTERN}, "behavior": "Isolated", "invert": False},
    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
]
#: Of its BPE.
_UNSET = (
    "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
    "ignore_merges",
)  # fmt: skip
#: What templates call the special tokens.
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA = ("additional_special_tokens", "extra_special_tokens")


class TokenizerFiles(NamedTuple):
    """The content of a directory's tokenizer files."""

    backend: tokenizers.Tokenizer
    chat_template: str | None
    special_tokens: dict[str, str]
    """Names as templates use them to token text."""


def read_directory(directory: Path) -> TokenizerFiles | None:
    """Returns what ``transformers`` would read there; ``None`` where only it knows."""
    config = _json(directory / "tokenizer_config.json")
    if (kimi := read_kimi(directory, config)) is not None:
        return TokenizerFiles(kimi, _template(directory, config), _special_tokens(config))
    kind = config.get("tokenizer_class")
    if kind not in _GENERIC | _QWEN or "auto_map" in config or not (directory / "tokenizer.json").is_file():
        return None
    if _json(directory / "config.json").get("model_type") not in _MODELS:
        return None
    if "added_tokens_decoder" not in config and any(
        (directory / name).exists() for name in ("special_tokens_map.json", "added_tokens.json")
    ):
        return None
    if kind in _QWEN and not {"eos_token", "pad_token", "unk_token"} <= config.keys():
        return None  # there are defaults
    template = _template(directory, config)
    if (directory / "additional_chat_templates").exists() or not isinstance(template, str | None):
        return None
    backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    if not _adds_nothing(config, backend) or (kind in _QWEN and not _has_rules_of_qwen(backend)):
        return None
    return TokenizerFiles(backend, template, _special_tokens(config))


def _template(directory: Path, config: dict[str, Any]) -> Any:
    """The chat template: a text, several, or none."""
    if (written := directory / "chat_template.jinja").is_file():
        return written.read_text(encoding="utf-8")
    return config.get("chat_template")


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    return {name: text for name in _NAMED if (text := _text(config.get(name))) is not None}


def _json(path: Path) -> dict[str, Any]:
    """A file's object; empty without a file, and for one that cannot be read, of which ``transformers`` tells."""
    try:
        read = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return read if isinstance(read, dict) else {}


def _adds_nothing(config: dict[str, Any], backend: tokenizers.Tokenizer) -> bool:
    """Returns True if every token that the configuration names is what it is in ``tokenizer.json``."""
    added = backend.get_added_tokens_decoder()
    for number, wanted in config.get("added_tokens_decoder", {}).items():
        if not isinstance(wanted, dict) or (found := added.get(int(number))) is None or _differ(wanted, found):
            return False
    special = {token.content for token in added.values() if token.special and not token.normalized}
    return all(text in special for text in _specials(config))


def _differ(wanted: dict[str, Any], found: tokenizers.AddedToken) -> bool:
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return any(wanted.get(flag) != getattr(found, flag) for flag in flags)


def _specials(config: dict[str, Any]) -> Iterator[str | None]:
    """Texts of the tokens that ``transformers`` would make special; ``None`` for one that is described otherwise."""
    for name, value in config.items():
        if name.endswith("_token") and isinstance(value, str | dict):
            yield _text(value)
    for name in _EXTRA:
        listed = config.get(name) or []
        yield from ((_text(each) if isinstance(listed, list) else None) for each in listed)


def _text(token: object) -> str | None:
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _has_rules_of_qwen(backend: tokenizers.Tokenizer) -> bool:
    rules = rules_of(backend)
    normalizer, splits, decoder = (rules[part] or {} for part in ("normalizer", "pre_tokenizer", "decoder"))
    # Whether offsets are trimmed changes no id, and files and ``transformers`` differ in it.
    steps = [{k: v for k, v in step.items() if k != "trim_offsets"} for step in splits.get("pretokenizers", ())]
    written = normalizer == {"type": "NFC"} and steps == _QWEN_SPLITS and decoder.get("type") == "ByteLevel"
    return written and isinstance(backend.model, models.BPE) and not any(getattr(backend.model, n) for n in _UNSET)
