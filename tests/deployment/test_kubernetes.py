"""docker/kubernetes: against Kubernetes' own schemas, and against what pods need."""

import base64
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment.places import DOCKER, KUBERNETES
from tests.materials.fetch import unavailable
from tickertape.server.settings.sources import load

FILES = sorted(KUBERNETES.glob("*.yaml"))
NAMES = [path.name for path in FILES]


def objects(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def pods(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Objects that make pods, and the pods' specifications."""
    for each in objects(path):
        if "template" in each.get("spec", {}):
            yield each, each["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def ours(path: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Tickertape's containers, with their pods."""
    return [(pod, each) for _, pod in pods(path) for each in containers(pod) if each["image"].startswith("tickertape:")]


def settings_file(path: Path) -> dict[str, Any]:
    (text,) = (each["data"]["tickertape.toml"] for each in objects(path) if each["kind"] == "ConfigMap")
    return tomllib.loads(text)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_manifests_follow_the_schemas_of_kubernetes(path: Path, version: str) -> None:
    from kubernetes_validate import validate  # takes a second, of every run that collects this file

    for each in objects(path):
        assert validate(each, version, strict=True) == version


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_pods_meet_the_restricted_standard(path: Path) -> None:
    for _, pod in pods(path):
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        mounted = {volume["name"] for volume in pod.get("volumes", [])}
        for each in containers(pod):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, each["name"]
            assert "memory" in each["resources"]["limits"]
            assert re.search(r":v?\d+\.\d+", each["image"])
            claims = {"data"} if each["name"] == "postgres" else set()
            assert {mount["name"] for mount in each["volumeMounts"]} <= mounted | claims


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_pod_ends_later_than_its_calls(path: Path) -> None:
    grace = settings_file(path)["grace"]
    for pod, each in ours(path):
        first = each.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= first + grace + 15


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_ports_and_probes_are_those_that_are_served(path: Path, routes: set[str]) -> None:
    port = settings_file(path)["port"]
    assert ours(path)
    for _, each in ours(path):
        assert each["ports"] == [{"name": "http", "containerPort": port}]
        probes = {name: each[name] for name in ("startupProbe", "livenessProbe", "readinessProbe") if name in each}
        assert {"startupProbe", "livenessProbe"} <= set(probes)
        assert probes["livenessProbe"]["httpGet"]["path"] == "/health"
        for name, probe in probes.items():
            assert probe["httpGet"]["port"] == "http", name
            assert f"GET {probe['httpGet']['path']}" in routes, name
        assert each["args"] == ["serve"]


def test_no_probe_ends_a_pod_that_waits_for_its_engine() -> None:
    """Weights may take long to load. A replica is up without an engine; an agent starts when there is one, and may wait
    for an hour."""
    ((_, replica),) = ours(KUBERNETES / "replicas.yaml")
    assert replica["startupProbe"]["httpGet"]["path"] == "/health"
    assert replica["readinessProbe"]["httpGet"]["path"] == "/ready"
    ((_, sidecar),) = ours(KUBERNETES / "sidecar.yaml")
    probe = sidecar["startupProbe"]
    assert probe["httpGet"]["path"] == "/ready"
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600


def test_a_replica_stays_ready_for_as_long_as_it_lets_calls_wait_for_an_engine() -> None:
    ((_, each),) = ours(KUBERNETES / "replicas.yaml")
    probe = each["readinessProbe"]
    patience = load({}, environ={}).settings.engine_patience
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) >= patience


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_selectors_and_references_lead_somewhere(path: Path, tmp_path: Path) -> None:
    everything = objects(path)
    labels = [each["spec"]["template"]["metadata"]["labels"] for each, _ in pods(path)]
    for each in everything:
        spec = each.get("spec", {})
        wanted = spec.get("selector") if each["kind"] == "Service" else spec.get("selector", {}).get("matchLabels")
        wanted = spec["podSelector"]["matchLabels"] if each["kind"] == "NetworkPolicy" else wanted
        if wanted:
            assert any(wanted.items() <= pod.items() for pod in labels), (each["kind"], each["metadata"]["name"])
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run([DOCKER / "make-secrets", tmp_path / "secrets"], check=True, env=environment)
    made = {secret.name for secret in (tmp_path / "secrets").iterdir()}
    maps = {each["metadata"]["name"] for each in everything if each["kind"] == "ConfigMap"}
    for _, pod in pods(path):
        for volume in pod.get("volumes", []):
            assert volume.get("configMap", {}).get("name") in {None, *maps}
            assert volume.get("secret", {}).get("secretName") in {None, "tickertape-keys"}
            assert {item["key"] for item in volume.get("secret", {}).get("items", [])} <= made
        for each in containers(pod):
            for variable in each.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                assert reference is None or reference["key"] in made or reference.get("optional")


@pytest.mark.parametrize(("path", "tape"), [("sidecar.yaml", "/tape/tape.db"), ("replicas.yaml", "postgresql://")])
def test_what_is_effective_in_a_pod(path: str, tape: str, tmp_path: Path) -> None:
    """Its variables, the secrets that are mounted, and its settings file together."""
    ((pod, container),) = ours(KUBERNETES / path)
    subprocess.run([DOCKER / "make-secrets", tmp_path / "all"], check=True)
    (items,) = (volume["secret"]["items"] for volume in pod["volumes"] if volume["name"] == "keys")
    (tmp_path / "mounted").mkdir()
    for item in items:
        shutil.copy(tmp_path / "all" / item["key"], tmp_path / "mounted" / item["path"])
    (tmp_path / "tickertape.toml").write_text(
        next(each["data"]["tickertape.toml"] for each in objects(KUBERNETES / path) if each["kind"] == "ConfigMap")
    )
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[variables["TICKERTAPE_SECRETS_DIR"]] == "keys"
    assert mounts[str(Path(variables["TICKERTAPE_CONFIG"]).parent)] == "settings"
    here = {"TICKERTAPE_SECRETS_DIR": str(tmp_path / "mounted"), "TICKERTAPE_CONFIG": str(tmp_path / "tickertape.toml")}
    settings = load({}, environ=variables | here).settings
    assert settings.db.startswith(tape)
    assert settings.admin_key is not None
    assert settings.session_key_secret is not None


def test_kubectl_makes_one_secret_of_all_that_make_secrets_makes(tmp_path: Path) -> None:
    """As the manifests' heads say it. Where there is kubectl; it needs no cluster for this."""
    kubectl = next((path for path in map(Path, ("/usr/bin/kubectl", "/usr/local/bin/kubectl")) if path.exists()), None)
    if kubectl is None:
        unavailable("kubectl", "it is not in /usr/bin", ("apt-get", "install", "-y", "kubectl"))
    subprocess.run([DOCKER / "make-secrets", tmp_path / "secrets"], check=True)
    command = ["create", "secret", "generic", "tickertape-keys", f"--from-file={tmp_path / 'secrets'}"]
    said = subprocess.run(
        [kubectl, *command, "--dry-run=client", "-o", "yaml"], capture_output=True, text=True, check=True
    ).stdout
    data = yaml.safe_load(said)["data"]
    assert set(data) == {path.name for path in (tmp_path / "secrets").iterdir()}
    assert base64.b64decode(data["tickertape_db"]).startswith(b"postgresql://tickertape:")
