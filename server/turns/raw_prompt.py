"""Prompts that clients make themselves: text or token ids, in place of messages."""

from collections.abc import Sequence

import numpy as np

from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.errors import InvalidRequest
from tickertape.server.trajectories.turn import TokenIds


def read_prompt(prompt: str | Sequence[int], tokenizer: Tokenizer) -> TokenIds:
    """A prompt as token ids, int32[n]. In text, control tokens are what they spell, and none is added.

    Raises:
        InvalidRequest: it is empty, cannot be encoded, or holds an id that is none.
    """
    if isinstance(prompt, str):
        try:
            ids = tokenizer.encode_like_model(prompt)
        except (UnicodeEncodeError, ValueError) as error:
            raise InvalidRequest(f"the prompt cannot be encoded: {error}", param="prompt") from error
    else:
        ids = list(prompt)
        check_ids("prompt", ids, tokenizer.vocab_size)
    if not ids:
        raise InvalidRequest("the prompt is empty", param="prompt")
    return np.array(ids, np.int32)


def check_ids(param: str, token_ids: Sequence[int], size: int) -> None:
    """
    Raises:
        InvalidRequest: one of them is no id of a vocabulary of this size.
    """
    for place, token_id in enumerate(token_ids):
        if not 0 <= token_id < size:
            raise InvalidRequest(
                f"{param}[{place}]: {token_id} is no token id (there are 0 to {size - 1})", param=f"{param}[{place}]"
            )
