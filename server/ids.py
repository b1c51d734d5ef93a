"""Names that have not been used before."""

import os
import random

_random = random.Random(os.urandom(32))  # noqa: S311  (names, not secrets)
# A server that is forked from a process that has loaded all this must not give the names that its siblings give.
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def new_id() -> str:
    """128 random bits. Not from the kernel: while that is asked, another thread may take the interpreter for
    milliseconds."""
    return f"{_random.getrandbits(128):032x}"
