"""nginx, for slow tests: Debian's package, unpacked in a folder of its own. Nothing is installed on the system."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.materials.fetch import unavailable

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickertape-tests" / "nginx"
_FETCH = ("apt-get", "download", "nginx")


def nginx_program() -> Path:
    """The one on the PATH, else Debian's. Skips the test where there is no apt-get or it finds none; in CI it fails."""
    if found := shutil.which("nginx"):
        return Path(found)
    program = _CACHE / "usr" / "sbin" / "nginx"
    if not program.exists():
        try:
            with tempfile.TemporaryDirectory() as work:
                if _run(_FETCH, work) and os.geteuid() == 0:
                    _run(("apt-get", "update"), work)
                if failure := _run(_FETCH, work):
                    unavailable("nginx", failure, _FETCH)
                _CACHE.mkdir(parents=True, exist_ok=True)
                (package,) = Path(work).glob("nginx_*.deb")
                if failure := _run(("dpkg-deb", "--extract", str(package), str(_CACHE)), work):
                    unavailable("nginx", failure, _FETCH)
        except OSError as error:
            unavailable("nginx", str(error), _FETCH)
    return program


def _run(command: tuple[str, ...], folder: str) -> str:
    """What went wrong, or nothing."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return done.stderr[-500:] if done.returncode else ""
