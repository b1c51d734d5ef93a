"""OpenAI's reference of gpt-oss's format, the package ``openai-harmony``, without the network.

It would fetch its vocabulary, ``o200k_base.tiktoken``. The words of gpt-oss's tokenizer in the order of their ids are
that file, byte for byte: the package checks it against OpenAI's digest.
"""

import base64
import os
import tempfile
from functools import cache
from pathlib import Path

from openai_harmony import HarmonyEncoding, load_harmony_encoding

from tests.materials.vocabularies import GPT_OSS
from tickertape.renderers.vocabulary import byte_level_alphabet


@cache
def harmony_encoding() -> HarmonyEncoding:
    """The reference's encoder and parser."""
    variable = "TIKTOKEN_ENCODINGS_BASE"
    before = os.environ.get(variable)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "o200k_base.tiktoken").write_bytes(_ranks())
        os.environ[variable] = directory
        try:
            return load_harmony_encoding("HarmonyGptOss")
        finally:
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before


def _ranks() -> bytes:
    byte_of_char = byte_level_alphabet()
    words = GPT_OSS.tokenizer.backend.get_vocab(with_added_tokens=False)
    spelled = {rank: b"".join(map(byte_of_char.__getitem__, word)) for word, rank in words.items()}
    return b"".join(b"%s %d\n" % (base64.b64encode(spelled[rank]), rank) for rank in range(len(spelled)))
