"""Models that real engines load in seconds, as directories in Hugging Face's format. Written once and kept under the
temporary directory.

Weights are written with numpy, so that they are the same whatever engine reads them, and no torch is needed here.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize
from safetensors.numpy import save_file

from tests.materials import SMOLLM2, qwen3_dir
from tickertape.clients.engines.embedded.model_file import model_file

Weights = Mapping[str, npt.NDArray[np.float32]]

_KEPT = Path(tempfile.gettempdir()) / "tickertape-models-1"
#: What a model's own generation_config.json asks for, and nothing here may be sampled with.
_GENERATION = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def tiny_model(seed: int = 0, tokenizer: str = "qwen3") -> Path:
    """A Qwen3 of two layers with random weights. Two seeds over one tokenizer are two policies.

    Weights are larger than an initialisation's, so that the next token depends on what came before.

    Args:
        seed: of the weights.
        tokenizer: ``qwen3`` (152 thousand tokens, 39 MB) or ``smollm2`` (49 thousand, which samples faster).
    """

    def write(directory: Path) -> None:
        _copy_tokenizer({"qwen3": qwen3_dir, "smollm2": _smollm2_tokenizer}[tokenizer](), directory)
        vocabulary = json.loads((directory / "tokenizer.json").read_text())
        tokens = len({*vocabulary["model"]["vocab"].values()} | {token["id"] for token in vocabulary["added_tokens"]})
        rows = -(-tokens // 128) * 128  # padded as real models' are: there are logits of ids that are no tokens
        eos = [token["id"] for token in vocabulary["added_tokens"] if token["content"] == "<|im_end|>"]
        _write(directory, _qwen3_config(rows), _qwen3_weights(rows, seed), eos)

    return _kept(f"qwen3-{tokenizer}-{seed}", write)


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, the embedded engine's real model, with its weights as they are after quantisation."""

    def write(directory: Path) -> None:
        _copy_tokenizer(_smollm2_tokenizer(), directory)
        reader = gguf.GGUFReader(str(model_file(say=print)))
        _write(directory, *_llama(reader), [int(reader.fields["tokenizer.ggml.eos_token_id"].contents())])

    return _kept("smollm2", write)


def _kept(name: str, write: Callable[[Path], None]) -> Path:
    """The directory of that name, written by the first who needs it."""
    directory = _KEPT / name
    if not directory.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=_KEPT))
        write(unfinished)
        try:
            unfinished.rename(directory)
        except OSError:
            if not directory.exists():  # no other process was faster
                raise
    return directory


def _write(directory: Path, config: dict[str, Any], weights: Weights, eos: list[int]) -> None:
    common = {"dtype": "float32", "torch_dtype": "float32", "tie_word_embeddings": True, "eos_token_id": eos[0]}
    (directory / "config.json").write_text(json.dumps(config | common))
    (directory / "generation_config.json").write_text(json.dumps(_GENERATION | {"eos_token_id": eos}))
    save_file(dict(weights), directory / "model.safetensors", metadata={"format": "pt"})


def _copy_tokenizer(source: Path, directory: Path) -> None:
    for name in _TOKENIZER_FILES:
        shutil.copy(source / name, directory)


def _smollm2_tokenizer() -> Path:
    def write(directory: Path) -> None:
        tokenizer = SMOLLM2.tokenizer
        tokenizer.backend.save(str(directory / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "clean_up_tokenization_spaces": False,
            "chat_template": tokenizer.chat_template,
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config))

    return _kept("smollm2-tokenizer", write)


_HIDDEN, _INNER, _LAYERS, _HEADS, _KV_HEADS, _HEAD = 64, 128, 2, 2, 1, 32


def _qwen3_config(rows: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": rows,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "max_position_embeddings": 40960,
        "attention_bias": False,
    }


def _qwen3_weights(rows: int, seed: int) -> Weights:
    random = np.random.default_rng(seed)

    def matrix(out: int, into: int, scale: float = 1.0) -> npt.NDArray[np.float32]:
        return random.standard_normal((out, into), np.float32) * np.float32(scale / into**0.5)

    def ones(size: int) -> npt.NDArray[np.float32]:
        return np.ones(size, np.float32)

    weights = {"model.embed_tokens.weight": matrix(rows, _HIDDEN, 2.0), "model.norm.weight": ones(_HIDDEN)}
    for layer in range(_LAYERS):
        weights |= {
            f"model.layers.{layer}.{name}.weight": value
            for name, value in {
                "input_layernorm": ones(_HIDDEN),
                "post_attention_layernorm": ones(_HIDDEN),
                "self_attn.q_proj": matrix(_HEADS * _HEAD, _HIDDEN),
                "self_attn.k_proj": matrix(_KV_HEADS * _HEAD, _HIDDEN),
                "self_attn.v_proj": matrix(_KV_HEADS * _HEAD, _HIDDEN),
                "self_attn.o_proj": matrix(_HIDDEN, _HEADS * _HEAD),
                "self_attn.q_norm": ones(_HEAD),
                "self_attn.k_norm": ones(_HEAD),
                "mlp.gate_proj": matrix(_INNER, _HIDDEN),
                "mlp.up_proj": matrix(_INNER, _HIDDEN),
                "mlp.down_proj": matrix(_HIDDEN, _INNER),
            }.items()
        }
    return weights


_LLAMA_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _llama(reader: gguf.GGUFReader) -> tuple[dict[str, Any], Weights]:
    """Config and weights of a GGUF model of architecture ``llama`` with tied embeddings."""

    def value(name: str) -> Any:
        return reader.fields[f"llama.{name}"].contents()

    heads = {"attn_q": value("attention.head_count"), "attn_k": value("attention.head_count_kv")}
    weights = {}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name.startswith("blk."):
            _, layer, name, _ = tensor.name.split(".")
            if name in heads:  # rows of a head: llama.cpp wants pairs to rotate side by side, Hugging Face halves
                array = array.reshape(heads[name], -1, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
            weights[f"model.layers.{layer}.{_LLAMA_NAMES[name]}.weight"] = np.ascontiguousarray(array)
        else:
            top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
            weights[top[tensor.name]] = array
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(weights["model.embed_tokens.weight"]),
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": heads["attn_q"],
        "num_key_value_heads": heads["attn_k"],
        "hidden_act": "silu",
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "rope_theta": value("rope.freq_base"),
        "max_position_embeddings": value("context_length"),
    }, weights
