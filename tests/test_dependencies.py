"""What is imported is declared: nothing is there only because something else happens to need it."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What the server may use where it is installed.
EXTRAS = tuple(extra for extra in PROJECT["optional-dependencies"] if extra not in ("dev", "bench"))


def declared(*extras: str) -> set[str]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return {re.split(r"[\[<>=!;~ ]", line)[0].lower().replace("_", "-") for line in lines}


#: What comes with another distribution, of one version with it.
PARTS = {"pydantic-core": "pydantic", "click": "typer", "langchain-core": "langchain-openai"}


def imported(folder: str) -> Iterator[tuple[Path, str]]:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.partition(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield path, node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("renderers", ()),
        ("clients", ("embedded", "tinker")),
        ("server", EXTRAS),
        ("examples", ("embedded", "dev")),
    ],
)
def test_what_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    known, distributions = declared(*extras), packages_distributions()
    for path, module in imported(folder):
        if module in sys.stdlib_module_names or module in ("tickertape", "tests", "benchmarks", "examples"):
            continue
        names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
        names = {PARTS.get(name, name) for name in names}
        assert names & known, f"{path.relative_to(ROOT)} imports {module} of {names}, which pyproject does not declare"


def test_declared_dependencies_fit_together() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_audit_that_cannot_ask_does_not_pass(tmp_path: Path) -> None:
    """Whatever is reached from here: a service that is not there must not look like one that found nothing."""
    script = (ROOT / ".ci" / "audit").read_text()
    (tmp_path / "pip_audit.py").write_text("raise SystemExit('no service')")
    (tmp_path / "audit.py").write_text(script)
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "audit.py")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ran.returncode == 3, ran.stdout
    assert "NOT AUDITED" in ran.stdout


def test_audit_refuses_an_environment_that_is_not_the_projects(tmp_path: Path) -> None:
    """The system's Python has its own packages; that they fit together says nothing of ours."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "audit"
    script.write_text((ROOT / ".ci" / "audit").read_text())
    bare = [sys.executable, "-I", "-S", str(script)]  # a Python without packages
    ran = subprocess.run(bare, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 2, ran.stdout
    assert "has no Tickertape" in ran.stdout


def test_type_check_refuses_to_run_without_the_dependencies(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "types"
    script.write_text((ROOT / ".ci" / "types").read_text())
    ran = subprocess.run(
        ["bash", str(script)], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert ran.returncode == 2, ran.stderr
    assert "no environment" in ran.stderr
