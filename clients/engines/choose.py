"""An engine by what it is called on the command line and in the admin API: ``KIND=URL``."""

from collections.abc import Callable

from tickertape.clients.engines.engine import Engine
from tickertape.clients.engines.sglang import SglangEngine
from tickertape.clients.engines.vllm import VllmEngine


class UnknownEngine(ValueError):
    """There is no such kind, or no such URL; the text says what there is."""


def _vllm(url: str, api_key: str | None) -> Engine:
    return VllmEngine(url, api_key=api_key)


def _sglang(url: str, api_key: str | None) -> Engine:
    return SglangEngine(url, api_key=api_key)


#: Engines that are reached by URL, by kind: what makes one of a URL and an API key.
KINDS: dict[str, Callable[[str, str | None], Engine]] = {"vllm": _vllm, "sglang": _sglang}


def make_engine(spec: str, api_key: str | None) -> Engine:
    """An engine, not started.

    Args:
        spec: such as ``vllm=http://127.0.0.1:8000``.
        api_key: a Bearer token, if the engine wants one.

    Raises:
        UnknownEngine: the text names the kinds that there are.
    """
    kind, _, url = spec.partition("=")
    if kind not in KINDS or not url.startswith(("http://", "https://")):
        raise UnknownEngine(f"engine {spec!r}: it must be {' or '.join(f'{kind}=http://HOST:PORT' for kind in KINDS)}")
    return KINDS[kind](url, api_key)
