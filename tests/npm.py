"""Agents that are npm packages, for slow tests: each set is installed once and stays in a folder of its own."""

import fcntl
import os
import subprocess
from pathlib import Path

from tests.materials.fetch import unavailable

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickertape-tests" / "npm"


def npm_package(name: str, version: str) -> Path:
    """As :func:`npm_packages`, of one."""
    return npm_packages(f"{name}@{version}")


def npm_packages(*packages: str) -> Path:
    """The folder ``node_modules`` with packages in it, from the registry that npm is set to. Skips the test where npm
    is not there or cannot install them; in CI it fails. No install script is run.

    Args:
        *packages: such as ``ai@7.0.173``; exact, as the folder is kept.
    """
    folder = _CACHE / "+".join(package.replace("/", "+") for package in packages)
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder))
    command = ("npm", "install", *options, *packages)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes may want the same one
        if not (folder / "installed").exists():
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            except OSError as error:
                unavailable(" ".join(packages), str(error), command)
            if done.returncode:
                unavailable(" ".join(packages), done.stderr[-500:], command)
            (folder / "installed").touch()
    return folder / "node_modules"
