"""Whatever is deployed from names settings that there are, with values that they can have."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.command_line import tickertape
from tests.deployment.places import COMPOSE, DOCKER, DOCKERFILE, KUBERNETES, ROOT, SYSTEMD
from tickertape.server.commands.settings_table import with_table
from tickertape.server.settings import Settings
from tickertape.server.settings.sources import load

SETTINGS = ROOT / "docs" / "settings.md"
DEPLOYMENT = ROOT / "docs" / "deployment.md"
#: Read by the compose file itself, before it says TICKERTAPE_…'s value.
COMPOSE_ONLY = {"TICKERTAPE_MEMORY", "TICKERTAPE_CPUS"}
#: With the typing error that the docs show.
NO_SETTINGS = {
    "TICKERTAPE_PROT",
    "TICKERTAPE_CONFIG",
    "TICKERTAPE_SECRETS_DIR",
    "TICKERTAPE_CACHE",
    "TICKERTAPE_PORT_",
    "TICKERTAPE_",
}
FILES = [DOCKERFILE, COMPOSE, DOCKER / "make-secrets", SETTINGS, DEPLOYMENT]
FILES += sorted(path for folder in (KUBERNETES, SYSTEMD) for path in folder.iterdir())


def tomls() -> dict[str, str]:
    """Settings files by where they stand: of their own, in ConfigMaps, in the docs."""
    found = {path.name: path.read_text() for path in SYSTEMD.glob("*.toml")}
    for path in KUBERNETES.glob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text()):
            found |= {f"{path.name} {name}": text for name, text in each.get("data", {}).items()}
    written = re.findall(r"```toml\n(.*?)```", SETTINGS.read_text(), re.DOTALL)
    return found | {f"settings.md {number}": text for number, text in enumerate(written)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_variable_and_secret_is_a_setting(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(r"\bTICKERTAPE_[A-Z_]*", text)) - NO_SETTINGS - COMPOSE_ONLY
    secrets = re.findall(r"\btickertape_((?:[a-z]+_)*(?:key|secret|db))\b", text)
    assert {name.removeprefix("TICKERTAPE_").lower() for name in named} | set(secrets) <= set(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(tomls()))
def test_every_settings_file_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tickertape.toml"
    path.write_text(tomls()[name])
    said = tickertape("config", "--config", str(path))
    assert said.exit_code == 0, said.stderr
    loaded = load({}, config=path, environ={})
    assert set(loaded.sources) == set(tomllib.loads(tomls()[name]))


def test_what_compose_sets_can_be(tmp_path: Path) -> None:
    environments = [each.get("environment", {}) for each in yaml.safe_load(COMPOSE.read_text())["services"].values()]
    ours = [each for each in environments if "TICKERTAPE_ENGINES" in each]
    assert len(ours) == 3
    for each in ours:
        variables = {name: value for name, value in each.items() if name.startswith("TICKERTAPE_")}
        loaded = load({}, environ=variables | {"TICKERTAPE_SECRETS_DIR": str(tmp_path)})
        assert loaded.settings.engines == ("vllm=http://vllm:8000",)


def test_the_documented_table_is_the_model_s() -> None:
    text = SETTINGS.read_text()
    assert text == with_table(text), "python -m tickertape.server.commands.settings_table docs/settings.md"
