"""A Dockerfile's own steps, carried out in a scratch directory: no image, no daemon, no root of its own.

``COPY`` obeys .dockerignore. ``RUN`` runs as it is written, but for paths: what is absolute and would be changed lies
below the scratch root. Stages have their root at the same path, one after the other, so that what a stage copies from
another one must work without anything else of it, as in an image.

What this does not show, since programs see the machine's own root: that the base image has what the steps use, and that
nothing is written elsewhere. See ``contained`` for the latter.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

#: Directories that steps change.
_MOVED = re.compile(r"(?<![\w./])/(etc|opt|src|tape)\b")
#: What a Dockerfile of ours may say. Another instruction is an error here, not skipped.
_METADATA = {"COMMENT", "VOLUME", "EXPOSE", "STOPSIGNAL"}


@dataclass
class Image:
    """What the last stage leaves.

    Attributes:
        root: the scratch directory that is its ``/``.
        base: what it is ``FROM``.
        environment: of its processes; paths lie below ``root``.
        user: user id and group id.
        volumes, ports: as they are written.
    """

    root: Path
    base: str
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions and what they are given, ``ARG``s of the beginning put into ``FROM``."""
    parser = DockerfileParser(path=str(dockerfile), env_replace=False)
    found = [(step["instruction"], step["value"]) for step in parser.structure if step["instruction"] != "COMMENT"]
    arguments = dict(value.split("=", 1) for name, value in found if name == "ARG")
    return [
        (name, re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], value) if name == "FROM" else value)
        for name, value in found
        if name != "ARG"
    ]


def build(dockerfile: Path, context: Path, scratch: Path) -> Image:
    """Carries out the steps of every stage.

    Args:
        dockerfile: what to carry out.
        context: the directory that ``COPY`` copies from, with its .dockerignore.
        scratch: an empty directory; at the end, the image is below ``root`` there.

    Raises:
        ValueError: an instruction is none of those that are understood here.
        subprocess.CalledProcessError: a ``RUN`` failed.
    """
    root = scratch / "root"
    ignored = (context / ".dockerignore").read_text().splitlines()
    sent = {path for path in exclude_paths(str(context), ignored) if (context / path).is_file()}
    stages: dict[str, Path] = {}
    image, name = Image(root, ""), ""
    for instruction, value in instructions(dockerfile):
        if instruction == "FROM":
            if root.exists():
                stages[name] = root.rename(scratch / f"stage-{name}")
            base, _, name = value.partition(" AS ")
            image = Image(root, base)
            _prepare(root)
        elif instruction == "RUN":
            _run(image, value)
        elif instruction == "COPY":
            _copy(image, value.split(), context, sent, stages)
        else:
            _note(image, instruction, value)
    return image


def placed(image: Image, text: str) -> str:
    """A command or a path with what is the image's below its root."""
    return _MOVED.sub(rf"{image.root}/\1", text)


def _prepare(root: Path) -> None:
    """What a base image has: users, and a Python that is called python."""
    (root / "etc").mkdir(parents=True)
    for name in ("passwd", "group"):
        shutil.copy(Path("/etc") / name, root / "etc" / name)
    programs = root / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(getattr(sys, "_base_executable", sys.executable))


def _environment(image: Image) -> dict[str, str]:
    """Of the machine's own, nothing but what leads to a package index."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.lower().startswith(("pip_", "ssl_", "http", "no_proxy"))
    }
    path = f"{image.root}/usr/local/bin:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(image.root), "LANG": "C.UTF-8"} | kept | image.environment


def _run(image: Image, command: str) -> None:
    directory = image.root / image.workdir.lstrip("/")
    script = ["/bin/sh", "-ec", placed(image, command)]
    done = subprocess.run(script, cwd=directory, env=_environment(image), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"RUN {command}\n{done.stdout}{done.stderr}"


def _copy(image: Image, words: list[str], context: Path, sent: set[str], stages: dict[str, Path]) -> None:
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = (word for word in words if not word.startswith("--"))
    there = Path(image.root, target.lstrip("/")) if target.startswith("/") else _below(image, target)
    for source in sources:
        if "from" in options:
            shutil.copytree(stages[options["from"]] / source.lstrip("/"), there, symlinks=True, copy_function=os.link)
            continue
        files = sorted(path for path in sent if path == source or path.startswith(f"{source}/"))
        assert files, f"COPY {source}: nothing of it is sent, see .dockerignore"
        for path in files:
            inside = Path(path).relative_to(source) if (context / source).is_dir() else Path(Path(path).name)
            to = there / inside
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / path, to)


def _below(image: Image, path: str) -> Path:
    return image.root / image.workdir.lstrip("/") / path


def _note(image: Image, instruction: str, value: str) -> None:
    match instruction:
        case "WORKDIR":
            image.workdir = value
            (image.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "ENV":
            for name, given in re.findall(r"(\w+)=(\S+)", value):
                kept = _environment(image)
                image.environment[name] = re.sub(
                    r"\$(\w+)", lambda match, kept=kept: kept[match[1]], placed(image, given)
                )
        case "USER":
            image.user = value
        case "VOLUME":
            image.volumes += value.split()
        case "EXPOSE":
            image.ports += value.split()
        case "STOPSIGNAL":
            image.stop_signal = value
        case "HEALTHCHECK":
            image.healthcheck = _exec(value.partition(" CMD ")[2])
        case "ENTRYPOINT":
            image.entrypoint = _exec(value)
        case "CMD":
            image.command = _exec(value)
        case _:
            raise ValueError(f"{instruction} is not understood here")


def _exec(value: str) -> list[str]:
    """The exec form: a shell between would get the signals."""
    words: Any = json.loads(value)
    assert isinstance(words, list), value
    return [str(word) for word in words]


def environment(image: Image, **more: str) -> dict[str, str]:
    """Of the image's processes; nothing of the machine's own."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"} | image.environment | more
