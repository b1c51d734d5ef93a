"""Work whose time grows with a request, off the event loop where the request is large."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

#: Bytes of a request's body up to which it is read, hashed and rendered at once, in about 20 ms at most: a thread would
#: cost more than the wait of others.
LARGE = 128 * 2**10

P = ParamSpec("P")
T = TypeVar("T")


async def off_loop(size: int, run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a function at once for a small request, on a thread for a large one.

    Args:
        size: bytes of the request's body.
        run: the function; what it touches must bear that the loop goes on meanwhile.
        args, kwargs: its arguments.
    """
    if size <= LARGE:
        return run(*args, **kwargs)
    return await asyncio.to_thread(run, *args, **kwargs)
