"""Trying out what an engine has beyond what a turn needs."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from tickertape.clients.engines.errors import EngineError, EngineGone

#: What is wrong with an answer that is not of the expected shape.
SHAPE = (LookupError, TypeError, ValueError, AttributeError)

T = TypeVar("T")


class Trial:
    """Keeps what is missing, and why.

    Args:
        url: the engine's, for messages.
        timeout: seconds that one thing may take.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.missing: dict[str, str] = {}
        """By name, the reason."""
        self._url = url
        self._timeout = timeout

    async def optional(self, name: str, attempt: Awaitable[T]) -> T | None:
        """Returns what comes of it; ``None`` if it does not answer as it should: then it is missing.

        Raises:
            EngineGone: the engine does not listen any more.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await attempt
        except TimeoutError:
            self.note(name, f"{self._url} did not answer within {self._timeout:g} s")
        except EngineGone:
            raise
        except EngineError as error:
            self.note(name, str(error))
        except SHAPE as error:
            self.note(name, f"{self._url} answered something else than its kind does: {error!r}")
        return None

    def note(self, name: str, reason: str) -> None:
        """It is missing."""
        self.missing[str(name)] = reason
