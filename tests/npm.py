"""Agents that are npm packages, for slow tests: each is installed once and stays in a folder of its own."""

import os
import subprocess
from pathlib import Path

from tests.materials.fetch import unavailable

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickertape-tests" / "npm"


def npm_package(name: str, version: str) -> Path:
    """The folder ``node_modules`` with a package in it, from the registry that npm is set to. Skips the test where npm
    is not there or cannot install it; in CI it fails. No install script is run."""
    folder = _CACHE / f"{name.replace('/', '+')}@{version}"
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder))
    command = ("npm", "install", *options, f"{name}@{version}")
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except OSError as error:
            unavailable(name, str(error), command)
        if done.returncode:
            unavailable(name, done.stderr[-500:], command)
        (folder / "installed").touch()
    return folder / "node_modules"
