"""docker/compose.yaml: read by Compose itself, and against what containers need."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment.places import COMPOSE, DOCKER, ROOT
from tests.deployment.processes import bin_directory
from tickertape.server.settings import Settings
from tickertape.server.settings.sources import load

PROFILES = ("replicas", "monitoring")
#: Whose secrets, tapes and memory they keep.
OURS = {"tickertape", "replica-1", "replica-2"}


def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [bin_directory() / "docker-compose", "-f", COMPOSE, *arguments]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@cache
def services() -> dict[str, dict[str, Any]]:
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    done = compose(*profiles, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


@pytest.mark.parametrize(
    ("profile", "there"),
    [
        (None, {"vllm", "tickertape"}),
        ("replicas", {"vllm", "tickertape", "replica-1", "replica-2", "proxy", "postgres"}),
        ("monitoring", {"vllm", "tickertape", "prometheus", "grafana"}),
    ],
)
def test_compose_reads_every_profile(profile: str | None, there: set[str]) -> None:
    done = compose(*(["--profile", profile] if profile else []), "config", "--services")
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "warnings, such as a variable without a default"
    assert set(done.stdout.split()) == there


def test_it_follows_the_compose_specification() -> None:
    command = [bin_directory() / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_images_are_pinned_and_services_are_checked_and_bounded() -> None:
    for name, service in services().items():
        assert re.search(r":v?\d+\.\d+", service["image"]), f"{name}: {service['image']}"
        assert service["healthcheck"]["test"] if name not in OURS else "build" in service, name  # the image has its own
        assert service["restart"] == "unless-stopped", name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name
        if name != "vllm":
            assert int(service["mem_limit"]) > 0, name
            assert "no-new-privileges:true" in service["security_opt"], name
        if name not in ("vllm", "postgres"):
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
        for other, needed in service.get("depends_on", {}).items():
            assert needed["condition"] == "service_healthy", name
            assert other != "vllm", f"{name} would not start before the engine has loaded its weights"


def seconds(duration: str) -> int:
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration).groups()  # type: ignore[union-attr]
    return 60 * int(minutes or 0) + int(rest or 0)


def test_a_stop_waits_longer_than_the_grace_period() -> None:
    graces = []
    for name in OURS:
        service = services()[name]
        grace = int(service["environment"].get("TICKERTAPE_GRACE", Settings().grace))
        assert seconds(service["stop_grace_period"]) >= grace + 15, name
        graces.append(grace)
    caddy = re.search(r"^\tgrace_period (\d+)s$", (DOCKER / "Caddyfile").read_text(), re.MULTILINE)
    assert caddy is not None
    assert max(graces) < int(caddy[1]) < seconds(services()["proxy"]["stop_grace_period"])


def test_secrets_are_files_and_no_variables() -> None:
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search(r"KEY|PASSWORD|SECRET|TOKEN", variable)
            assert not secret or not value or value.startswith("/run/secrets"), f"{name}: {variable}"


def test_make_secrets_makes_every_secret_once(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "make-secrets", tmp_path)
    subprocess.run([tmp_path / "make-secrets"], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    named = {secret["source"] for service in services().values() for secret in service.get("secrets", [])}
    assert set(made) == named
    assert len(set(made.values())) == len(made)
    assert all(len(value) >= 32 for value in made.values())
    loaded = load({}, environ={"TICKERTAPE_SECRETS_DIR": str(tmp_path / "secrets")})
    assert set(loaded.sources) == {name.removeprefix("tickertape_") for name in made if name.startswith("tickertape_")}
    assert f":{made['postgres_password']}@postgres:5432/" in made["tickertape_db"]
    subprocess.run([tmp_path / "make-secrets"], check=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o444}


def test_what_is_mounted_is_there() -> None:
    for name, service in services().items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), f"{name}: {volume['source']}"


def test_the_image_is_built_from_this_source() -> None:
    for name in OURS:
        build = services()[name]["build"]
        assert Path(build["context"]) == ROOT
        assert build["dockerfile"] == "docker/Dockerfile"


def test_prometheus_reads_every_server_and_has_a_key_for_it() -> None:
    (job,) = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    targets = [target for each in job["static_configs"] for target in each["targets"]]
    targets += [f"{name}:{each['port']}" for each in job["dns_sd_configs"] for name in each["names"]]
    assert set(targets) == {f"{name}:{Settings().port}" for name in OURS}
    key = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert key in {secret["source"] for secret in services()["prometheus"]["secrets"]}
    assert key in {secret["source"] for secret in services()["tickertape"]["secrets"]}
