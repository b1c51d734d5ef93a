"""Names that nobody has used before."""

import os
import random

_random = random.Random(os.urandom(32))  # noqa: S311  (names, not secrets)


def new_id() -> str:
    """128 random bits. Not from the kernel: while that is asked, another thread may take the interpreter for
    milliseconds."""
    return f"{_random.getrandbits(128):032x}"
