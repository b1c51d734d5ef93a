"""Agents that are npm packages, for slow tests: each is installed once and stays in a folder of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickertape-tests" / "npm"


def npm_package(name: str, version: str) -> Path:
    """The folder ``node_modules`` with a package in it, from the registry that npm is set to. Skips the test where npm
    is not there or cannot install it. No install script is run."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = _CACHE / f"{name.replace('/', '+')}@{version}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
            str(folder),
            f"{name}@{version}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"npm cannot install {name}: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return folder / "node_modules"
