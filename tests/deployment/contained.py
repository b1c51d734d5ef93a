"""A process as a container starts it, with util-linux alone: its own mounts, none but the volumes writable; process
number 1; the image's user; no capability. The network is the machine's."""

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.deployment.dockerfile import Image, environment

# A Python below /root, which is closed to others, is moved to a new /root that is open.
_SCRIPT = """
case {python} in /root/*)
    mount -t tmpfs none /mnt
    mkdir /mnt/python
    mount --bind {python} /mnt/python
    mount -t tmpfs -o mode=755 none /root
    mkdir -p {python}
    mount --move /mnt/python {python};;
esac
for volume in {volumes}; do mount --bind "$volume" "$volume"; done
mount -o remount,ro,bind /
if mountpoint -q /tmp; then mount -o remount,ro,bind /tmp; fi
cd {workdir}
exec setpriv --reuid {user} --regid {group} --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs {command}
"""


def possible() -> bool:
    """Whether this machine lets us."""
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def contained(image: Image, settings: Mapping[str, str]) -> list[str]:
    """The command that starts the image's process; see :func:`first_process` for the process itself."""
    user, group = image.user.split(":")
    variables = [f"{name}={value}" for name, value in environment(image, **settings).items()]
    command = ["env", "-i", *variables, *image.entrypoint, *image.command]
    script = _SCRIPT.format(
        python=sys.base_prefix,
        volumes=" ".join(str(image.root / volume.lstrip("/")) for volume in image.volumes),
        workdir=image.root / image.workdir.lstrip("/"),
        user=user,
        group=group,
        command=shlex.join(command),
    )
    return ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec", script]


def first_process(unshare: int) -> int | None:
    """The number that process 1 has outside, by that of the process that ``contained`` was started as."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    return int(children[0]) if children else None
