"""The place where a tokenizer is looked for: a directory, or the hub; and what to say where it is not found.

The hub's library tries an address that it cannot reach for a minute. So it is found out first whether there is a
connection at all; without one, only what was fetched before is looked at.
"""

import logging
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tickertape.renderers.errors import TokenizerError
from tickertape.renderers.kimi_files import RANKS

#: ``name`` or ``owner/name``.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
#: One of these is in every tokenizer's directory.
_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", RANKS, "vocab.json", "vocab.txt")
_EXAMPLE = "such as Qwen/Qwen3-8B"
#: Seconds for one address of the hub's, of two at most: a firewall that drops packets is not waited for.
_CONNECTING = 3.0


@dataclass(frozen=True, slots=True)
class Place:
    """The place where ``transformers`` is to look.

    Attributes:
        source: a directory, or a name on the hub.
        is_directory: which of the two.
        unreached: why the hub cannot be asked; ``None`` where it can.
        hub: its address.
    """

    source: str
    is_directory: bool
    unreached: str | None = None
    hub: str = ""

    @property
    def is_local(self) -> bool:
        """Returns True if only files that are here are to be looked at."""
        return self.is_directory or self.unreached is not None

    def explained(self, error: Exception) -> str:
        """Returns what it means that there is no tokenizer, for people."""
        if "trust_remote_code" in str(error):
            return (
                f"the tokenizer of {self.source} is a program of its own, which is never run here. Give a directory "
                "that holds tokenizer.json: the program's makers say how to save one"
            )
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if self.is_directory:
            return f"the directory {self.source} holds no tokenizer that can be read: {said}"
        if self.unreached is not None:
            return (
                f"no tokenizer {self.source!r}: there is no such directory, it was not fetched before, and the hub "
                f"{self.hub} cannot be asked ({self.unreached}). Give a directory that holds tokenizer.json"
            )
        return (
            f"no tokenizer {self.source!r}: there is no such directory, and the hub {self.hub} gives none; a private "
            f"or gated model needs HF_TOKEN ({said})"
        )


def find_tokenizer(source: str) -> Place:
    """Finds where to look for a directory's path or a hub's name.

    Raises:
        TokenizerError: it is neither; the text says what would be right.
    """
    path = Path(source)
    if path.is_dir():
        if not any((path / name).is_file() for name in _FILES):
            raise TokenizerError(f"the directory {source} holds no tokenizer: there is no tokenizer.json in it")
        return Place(source, is_directory=True)
    if path.is_file():
        raise TokenizerError(f"{source} is a file: give the directory that holds it, or a hub name {_EXAMPLE}")
    if not _HUB_NAME.fullmatch(source):
        raise TokenizerError(
            f"there is no directory {source}: give one that holds tokenizer.json, or a hub name {_EXAMPLE}"
        )
    from huggingface_hub import constants

    if logging.getLogger().handlers:  # it has brought one of its own, by which each line would be there twice
        logging.getLogger("huggingface_hub").handlers.clear()
    return Place(source, False, _why_unreached(constants.ENDPOINT, constants.HF_HUB_OFFLINE), constants.ENDPOINT)


def _why_unreached(url: str, offline: bool) -> str | None:
    """Finds why no connection to the hub is made, or to the proxy in front of it; ``None`` where one is."""
    if offline:
        return "HF_HUB_OFFLINE is set"
    place = urlsplit(url)
    if not proxy_bypass(place.hostname or "") and (proxy := getproxies().get(place.scheme)):
        place = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        addresses = socket.getaddrinfo(place.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"{place.hostname}: {error.strerror}"
    why = "it has no address"
    for host in [str(address[0]) for *_, address in addresses[:2]]:
        try:
            socket.create_connection((host, port), timeout=_CONNECTING).close()
        except OSError as error:
            why = f"{host} port {port}: {error.strerror or 'no answer'}"
        else:
            return None
    return why
