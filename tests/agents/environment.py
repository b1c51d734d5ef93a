"""Python agents that need other versions of packages than the tests: each set in a virtual environment of its own, made
once; and what keeps any agent on loopback."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from tests.materials.fetch import unavailable

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickertape-tests" / "python"


def python_environment(*requirements: str, python: str = "") -> Path:
    """The folder of a virtual environment's programs, with packages from the index that pip is set to. Skips the test
    where they cannot be installed; in CI it fails.

    Args:
        *requirements: such as ``litellm==1.106.2``; exact, as the folder is kept.
        python: the version of Python that they need; empty: the one that runs the tests.
    """
    folder = _CACHE / "+".join(requirement.replace("==", "@") for requirement in requirements)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes may want the same one
        if not (folder / "installed").exists():
            uv = (sys.executable, "-m", "uv")
            make = (*uv, "venv", "-q", "--allow-existing", "--python", _interpreter(python), str(folder))
            install = (*uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), *requirements)
            for command in (make, install):
                done = subprocess.run(command, capture_output=True, text=True, timeout=600)
                if done.returncode:
                    unavailable(" ".join(requirements), done.stderr[-500:], command)
            (folder / "installed").touch()
    return folder / "bin"


def _interpreter(version: str) -> str:
    """A Python of this version: the one that runs the tests, pyenv's, or what uv finds or fetches."""
    if version in ("", f"{sys.version_info.major}.{sys.version_info.minor}"):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob(f"{version}*/bin/python"))
    return str(found[-1]) if found else version


def litellm_environment() -> Path:
    """LiteLLM and an agent that is built on it: they need an older openai. Without its extra ``mcp`` this version of
    LiteLLM fails on every request that has tools."""
    return python_environment("litellm[mcp]==1.106.2", "mini-swe-agent==2.4.6")


def closed_environ(home: Path) -> dict[str, str]:
    """Environment variables of an agent that is to find nothing of this machine's settings, and to reach nothing but
    loopback: whatever else it calls goes to a closed port."""
    closed = "http://127.0.0.1:9"
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HTTP_PROXY": closed,
        "HTTPS_PROXY": closed,
        "NO_PROXY": "127.0.0.1",
        "OPENAI_API_KEY": "none",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it fetches a list of prices otherwise
    }


def run(command: list[str], environ: dict[str, str], folder: Path, seconds: int = 150) -> str:
    """What a program says that ends well."""
    done = subprocess.run(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout
