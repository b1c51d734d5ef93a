"""docker/Dockerfile: what it says, and what its own steps make."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deployment.contained import contained, first_process, possible
from tests.deployment.dockerfile import Image, build, environment, instructions
from tests.deployment.places import DOCKER, DOCKERFILE, ROOT
from tests.deployment.processes import ANSWER, chat, free_port, serve_settings, started, wait_until_ready, write_keys
from tests.engines import faulty_vllm

LOCKED = DOCKER / "requirements.txt"
#: What is locked: the extras of the image.
EXTRAS = {"otel", "postgres"}


def locked(path: Path) -> list[tuple[Requirement, int]]:
    """Requirements of a lock file, and how many hashes each has."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(Requirement(line.split(" --hash")[0].strip()), line.count("--hash=sha256:")) for line in lines]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_every_package_is_pinned_by_version_and_hash(name: str) -> None:
    requirements = locked(DOCKER / name)
    assert requirements
    for requirement, hashes in requirements:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement


def test_the_lock_satisfies_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    pins = {canonicalize_name(requirement.name): requirement for requirement, _ in locked(LOCKED)}
    for requirement in map(Requirement, asked):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement} is not locked: run docker/lock"
        (version,) = pin.specifier
        assert version.version in requirement.specifier, f"{pin} is not {requirement}: run docker/lock"


def test_the_lock_is_made_for_the_extras_of_the_image() -> None:
    assert set(re.findall(r"--extra (\w+)", (DOCKER / "lock").read_text())) == EXTRAS


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28"])
def test_there_is_a_wheel_of_everything_for_the_base_image(platform: str, tmp_path: Path) -> None:
    (base,) = {value.split(" AS ")[0] for name, value in instructions(DOCKERFILE) if name == "FROM"}
    python = re.match(r"python:(3\.\d+)", base)
    assert python is not None
    done = subprocess.run(
        [
            *("uv", "pip", "install", "--dry-run", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
            *("--target", tmp_path, "--python-version", python[1], "--python-platform", platform, "-r", LOCKED),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stderr


def test_the_image_is_pinned_without_root_and_started_without_a_shell() -> None:
    found = instructions(DOCKERFILE)
    for name, value in found:
        if name == "FROM":
            assert re.match(r"\S+:\d+\.\d+\.\d+-slim-\w+(@sha256:\w{64})?( AS |$)", value), value
    said = dict(found)
    assert said["USER"] == "10001:10001"  # numbers: Kubernetes' runAsNonRoot cannot look names up
    assert said["VOLUME"] == "/tape"
    assert said["ENTRYPOINT"] == '["tickertape"]'
    assert "CMD [" in said["HEALTHCHECK"]


def test_nothing_but_sources_is_sent_to_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {path for path in exclude_paths(str(ROOT), ignored) if (ROOT / path).is_file()}
    assert {"pyproject.toml", "docker/requirements.txt", "server/commands/cli.py", "clients/py.typed"} <= sent
    others = {path for path in sent if not re.match(r"(renderers|clients|server)/", path)}
    # The first is docker-py's own doing; Docker sends it, and COPY does not take it.
    locks = {"docker/requirements.txt", "docker/requirements-build.txt"}
    assert others <= {".dockerignore", "pyproject.toml", "setup.py", "README.md", "LICENSE"} | locks
    assert not {path for path in sent if "__pycache__" in path or ".git" in path}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if os.geteuid() != 0:
        pytest.skip("the Dockerfile's chown needs root")
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)  # another user serves from it
        yield build(DOCKERFILE, ROOT, Path(scratch))


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_make_what_serves(image: Image, tmp_path: Path) -> None:
    headers, port = write_keys(tmp_path / "secrets"), free_port()
    with faulty_vllm(ANSWER) as engine:
        settings = serve_settings(engine, port) | {"TICKERTAPE_SECRETS_DIR": str(tmp_path / "secrets")}
        variables = environment(image, **settings)
        log, workdir = tmp_path / "log", image.root / image.workdir.lstrip("/")
        with started([*image.entrypoint, *image.command], environment=variables, cwd=workdir, log=log) as server:
            wait_until_healthy(image, variables, server, log)
            url = f"http://127.0.0.1:{port}"
            answer = httpx.post(f"{url}/sessions/s/v1/chat/completions", json=chat(), headers=headers, trust_env=False)
            assert answer.status_code == 200, answer.text
            server.terminate()
            assert server.wait(30) == 0, log.read_text()
            assert subprocess.run(image.healthcheck, env=variables, capture_output=True, check=False).returncode != 0
    assert (image.root / "tape" / "tape.db").stat().st_size > 0
    check = [image.root / "opt/tickertape/bin/python", "-c", "import psycopg, pip"]
    said = subprocess.run(check, capture_output=True, text=True, check=False).stderr
    assert "No module named 'pip'" in said  # psycopg is there, pip is not


@pytest.fixture
def volume(image: Image) -> Path:
    """/tape, new."""
    if not possible():
        pytest.skip("no name spaces here: unshare --mount --pid")
    tape = image.root / "tape"
    shutil.rmtree(tape)
    tape.mkdir(mode=0o750)
    os.chown(tape, *map(int, image.user.split(":")))
    return tape


@pytest.mark.slow
def test_it_serves_as_process_1_of_its_user_on_a_read_only_root(image: Image, volume: Path, tmp_path: Path) -> None:
    secrets = image.root.parent / "secrets"
    headers, port = write_keys(secrets), free_port()
    with faulty_vllm(ANSWER) as engine:
        settings = serve_settings(engine, port) | {"TICKERTAPE_SECRETS_DIR": str(secrets)}
        log, command = tmp_path / "log", contained(image, settings)
        with started(command, environment=os.environ, cwd=tmp_path, log=log) as unshare:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(f"{url}/ready", unshare, log)
            answer = httpx.post(f"{url}/sessions/s/v1/chat/completions", json=chat(), headers=headers, trust_env=False)
            assert answer.status_code == 200, answer.text
            process = first_process(unshare.pid)
            assert process is not None
            status = Path(f"/proc/{process}/status").read_text()
            for pattern in (r"Uid:\t10001\t10001\t", r"Gid:\t10001\t10001\t", r"NSpid:\t\d+\t1$", r"CapEff:\t0+$"):
                assert re.search(f"^{pattern}", status, re.MULTILINE), status
            os.kill(process, signal.SIGTERM)
            assert unshare.wait(30) == 0, log.read_text()
    assert {path.name for path in volume.iterdir()} == {"tape.db", "tape.db-server"}


@pytest.mark.slow
def test_process_1_can_be_stopped_while_it_waits_for_an_engine(image: Image, volume: Path, tmp_path: Path) -> None:
    """The kernel keeps from process 1 every signal that it has no handler for: a stop would wait, and then kill."""
    secrets = image.root.parent / "secrets-2"
    write_keys(secrets)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = serve_settings(engine, free_port()) | {"TICKERTAPE_SECRETS_DIR": str(secrets)}
        log, command = tmp_path / "log", contained(image, settings)
        with started(command, environment=os.environ, cwd=tmp_path, log=log) as unshare:
            silent.settimeout(60)
            connection, _ = silent.accept()
            process = first_process(unshare.pid)
            assert process is not None
            os.kill(process, signal.SIGTERM)
            assert unshare.wait(5) == 0, log.read_text()
            connection.close()


def wait_until_healthy(image: Image, variables: dict[str, str], server: subprocess.Popen[bytes], log: Path) -> None:
    """Runs the HEALTHCHECK until it passes."""
    program = shutil.which(image.healthcheck[0], path=variables["PATH"])
    assert program is not None
    assert program.startswith(str(image.root)), program
    deadline = time.monotonic() + 60
    while subprocess.run([program, *image.healthcheck[1:]], env=variables, capture_output=True, check=False).returncode:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
