"""Environments of their own for what benchmarks compare with: peers pin other versions than Tickertape does."""

import subprocess
import tomllib
import venv
from pathlib import Path

from benchmarks.children import ROOT


def peer_python(directory: Path, extra: str) -> str:
    """The interpreter of a peer's environment, which is made if need be, with an extra of pyproject.toml alone."""
    python = directory / "bin" / "python"
    if not python.exists():
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return str(python)
