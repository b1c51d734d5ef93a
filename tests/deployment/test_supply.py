"""What a person outside needs to look after the dependencies: the bill of materials, the audit, the weekly run."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.deployment.places import ROOT
from tests.deployment.test_image import LOCKED, locked

WORKFLOW = ROOT / ".github" / "workflows" / "dependencies.yml"


def test_the_bill_of_materials_lists_what_is_locked() -> None:
    command = [ROOT / ".ci" / "sbom"]
    environment = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "tickertape"
    listed = {each["name"]: each["version"] for each in bill["components"]}
    hashes = {each["name"]: len(each["externalReferences"][0]["hashes"]) for each in bill["components"]}
    pins = locked(LOCKED)
    assert listed == {pin.name: next(iter(pin.specifier)).version for pin, _ in pins}
    assert hashes == {pin.name: number for pin, number in pins}


def test_the_lock_is_audited_by_its_hashes(tmp_path: object) -> None:
    """pip-audit is asked for the file, not for what is installed; no service is needed to see that."""
    script = (ROOT / ".ci" / "audit").read_text()
    fake = "import json, sys; print(json.dumps({'dependencies': [{'name': ' '.join(sys.argv[1:]), 'version': '1'}]}))"
    done = subprocess.run(
        [sys.executable, "-c", script.replace('"-m", "pip_audit"', f'"-c", {fake!r}'), "--lock", "some.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 dependencies were audited, 0 advisories found" in done.stdout
    assert "pip check" not in done.stdout


@pytest.mark.parametrize("name", [".ci/audit", ".ci/sbom", "docker/lock"])
def test_the_weekly_run_does_what_is_run_by_hand(name: str) -> None:
    steps = [step for job in yaml.safe_load(WORKFLOW.read_text())["jobs"].values() for step in job["steps"]]
    run = "\n".join(step.get("run", "") for step in steps)
    assert re.search(rf"^{re.escape(name)}\b", run, flags=re.MULTILINE)
    assert (ROOT / name).stat().st_mode & 0o111, "it can be run"


def test_the_weekly_run_is_a_workflow() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
