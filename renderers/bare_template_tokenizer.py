"""A vocabulary for a chat template that comes without its tokenizer: bytes, and the control tokens that it spells.

Enough to see how the template treats a conversation, and which format it is; not to sample from.
"""

import re

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tickertape.renderers.families import FAMILIES
from tickertape.renderers.template.jinja import TEMPLATE_FAILURES, render_template
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.renderers.vocabulary import byte_level_alphabet

#: How control tokens of open models are spelled: <|x|>, <｜x｜>, <|x>, <x|>, [X], <x>, ]~b], [e~[.
_SPELLED = re.compile(
    r"<\|[^|<>\s']{1,40}\|?>|<[^|<>\s']{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|\[/?[A-Z][A-Z_]+\]|<SPECIAL_\d+>|</?[a-z][\w:]{0,40}>"
    r"|\]~!?b[\]\[]|\[e~\["
)
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def tokenizer_for_template(source: str, name: str) -> Tokenizer:
    """A tokenizer with ``source`` as its chat template.

    Args:
        source: the Jinja template.
        name: of its file, for messages to people.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocab = {char: k for k, char in enumerate(sorted(alphabet, key=lambda char: byte_level_alphabet()[char]))}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    markers = [marker for family in FAMILIES.values() for marker in family.markers if marker in source]
    spelled = dict.fromkeys(
        [*_SPELLED.findall(source), *_SPELLED.findall(_shown(source)), *markers, *_SPECIAL.values()]
    )
    backend.add_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in spelled])
    return Tokenizer(backend, chat_template=source, special_tokens=_SPECIAL, name=name)


def _shown(source: str) -> str:
    """Returns what the template makes of a short conversation: it may put its tokens together out of parts."""
    said = [{"role": role, "content": "Well."} for role in ("user", "assistant", "user")]
    try:
        return render_template(source, said, None, add_generation_prompt=True, **_SPECIAL)
    except TEMPLATE_FAILURES:  # a template may want more than that
        return ""
