"""The tokenizer of a run, as far as a benchmark needs it: texts of a given length, and the token that ends a turn."""

import json
from pathlib import Path

from tokenizers import Tokenizer

PARAGRAPH = (
    "Step {n}: the agent listed the repository, opened src/module_{b}.py next to its tests and read both from the top. "
    "Most of the suite passed, but the parser rejected an empty header with `ValueError: unexpected end of {c} bytes`, "
    "so it traced the call back through Connection.receive(), rewrote the guard clause and ran pytest --quiet again.\n"
)


class Vocabulary:
    """Texts and ids of one tokenizer directory (`tokenizer.json`, `tokenizer_config.json`)."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        eos = config["eos_token"]
        stop = self._tokenizer.token_to_id(eos["content"] if isinstance(eos, dict) else eos)
        if stop is None:
            raise ValueError(f"{directory}: the tokenizer does not know its eos_token {eos!r}")
        self.stop_id: int = stop

    def text(self, n_tokens: int) -> tuple[str, list[int]]:
        """Agent-like text of `n_tokens` tokens, and its ids; any two lengths share their beginning."""
        paragraphs = range(n_tokens // len(PARAGRAPH.split()) + 1)
        text = "".join(PARAGRAPH.format(n=n, b=n % 97, c=n % 7919) for n in paragraphs)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if len(encoding.ids) < n_tokens:
            raise ValueError(f"the text has {len(encoding.ids)} tokens, not {n_tokens}")
        return text[: encoding.offsets[n_tokens - 1][1]], list(encoding.ids[:n_tokens])
