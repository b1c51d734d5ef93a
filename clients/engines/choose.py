"""An engine by what it is called on the command line and in the admin API: ``KIND=URL``, or ``tinker=WEIGHTS``."""

import re
from collections.abc import Callable

from tickertape.clients.engines.engine import Engine
from tickertape.clients.engines.http import CONNECT_TIMEOUT
from tickertape.clients.engines.sglang.engine import SglangEngine
from tickertape.clients.engines.tinker.engine import TinkerEngine
from tickertape.clients.engines.vllm.engine import VllmEngine

#: Of a URL: who logs in, or a query or fragment.
_SECRET = re.compile(r"//[^/?#]*@|[?#].*", re.DOTALL)

#: How agents are given an engine's address.
_VERSIONED = re.compile(r"(?<=[^/])/v1(/chat/completions|/completions)?/?$")


class UnknownEngine(ValueError):
    """There is no such kind, or no such URL; the text says what there is."""


def _vllm(url: str, api_key: str | None, connect_timeout: float, context: int | None) -> Engine:
    return VllmEngine(url, api_key=api_key, connect_timeout=connect_timeout, context=context)


def _sglang(url: str, api_key: str | None, connect_timeout: float, _context: int | None) -> Engine:
    """It always says its context."""
    return SglangEngine(url, api_key=api_key, connect_timeout=connect_timeout)


def _tinker(weights: str, api_key: str | None, _connect_timeout: float, _context: int | None) -> Engine:
    """Its SDK looks after its own connections, and the service says the context."""
    return TinkerEngine(weights, api_key=api_key)


#: Engines that are not in this process, by kind: what makes one of a URL, or of its weights' path, an API key,
#: the seconds that a connection may take, and the context of one that does not say it.
KINDS: dict[str, Callable[[str, str | None, float, int | None], Engine]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tinker": _tinker,
}


def make_engine(
    spec: str, api_key: str | None, *, connect_timeout: float = CONNECT_TIMEOUT, context: int | None = None
) -> Engine:
    """An engine, not started.

    Args:
        spec: such as ``vllm=http://127.0.0.1:8000``, ``tinker=tinker://RUN/sampler_weights/NAME`` or
            ``tinker=Qwen/Qwen3-8B``.
        api_key: a Bearer token, if the engine wants one.
        connect_timeout: seconds to a connection, where it is reached by URL.
        context: tokens of context, if the engine does not say so itself.

    Raises:
        UnknownEngine: the text names the kinds that there are, and no password.
    """
    kind, _, where = spec.partition("=")
    if kind in KINDS and _SECRET.search(where):
        raise UnknownEngine(
            f"engine {shown(spec)!r}: a URL has no password and no query here; a key is given beside it"
        )
    if kind in KINDS and _VERSIONED.search(where):
        raise UnknownEngine(f"engine {spec!r}: the address is asked for without /v1: {_VERSIONED.sub('', spec)}")
    if kind not in KINDS or not _can_be(kind, where):
        raise UnknownEngine(
            f"engine {shown(spec)!r}: it must be {' or '.join(f'{kind}={_shape(kind)}' for kind in KINDS)}"
        )
    return KINDS[kind](where, api_key, connect_timeout, context)


def shown(spec: str) -> str:
    """Returns an engine's address as it may be shown: without what stands where passwords do."""
    return _SECRET.sub(lambda found: "//***@" if found.group().startswith("//") else "?***", spec)


def _can_be(kind: str, where: str) -> bool:
    if kind == "tinker":
        return where.removeprefix("tinker://") != "" and not where.startswith(("http://", "https://"))
    return where.startswith(("http://", "https://"))


def _shape(kind: str) -> str:
    return "tinker://PATH|BASE_MODEL" if kind == "tinker" else "http://HOST:PORT"
