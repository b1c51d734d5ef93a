"""One model of settings: flags beat the environment, that the files of secrets, those the TOML file."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tickertape.renderers.format import History
from tickertape.server.commands.cli import app
from tickertape.server.settings import Settings, SettingsError
from tickertape.server.settings.sources import load, shown


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tickertape.toml"
    path.write_text('port = 1\nengines = ["vllm=http://a", "vllm=http://b"]\ngrace = 3\nhistory = "template"\n')
    return path


def test_each_source_beats_those_after_it_and_is_told(file: Path, tmp_path: Path) -> None:
    (tmp_path / "tickertape_engine_api_key").write_text("from-file\n")
    (tmp_path / "tickertape_grace").write_text("5")
    environ = {"TICKERTAPE_PORT": "2", "TICKERTAPE_SECRETS_DIR": str(tmp_path), "TICKERTAPE_HOST": "::1"}
    loaded = load({"port": 3}, config=file, environ=environ)
    settings = loaded.settings
    assert (settings.port, settings.host, settings.grace, settings.history) == (3, "::1", 5, History.TEMPLATE)
    assert settings.engine_api_key is not None
    assert settings.engine_api_key.get_secret_value() == "from-file"
    assert settings.engines == ("vllm=http://a", "vllm=http://b")
    assert loaded.sources == {
        "port": "flag --port",
        "host": "environment TICKERTAPE_HOST",
        "engine_api_key": f"secret file {tmp_path}/tickertape_engine_api_key",
        "grace": f"secret file {tmp_path}/tickertape_grace",
        "engines": f"file {file}",
        "history": f"file {file}",
    }


def test_lists_in_the_environment_lie_between_commas() -> None:
    given = load({}, environ={"TICKERTAPE_ENGINES": "vllm=http://a, sglang=http://b"}).settings
    assert given.engines == ("vllm=http://a", "sglang=http://b")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TICKERTAPE_HISTORY": "exakt"}, "history cannot be 'exakt' (environment TICKERTAPE_HISTORY): it should be"),
        ({"TICKERTAPE_HISTORY": "exakt"}, "'exact' or 'template'"),
        ({"TICKERTAPE_PORT": "70000"}, "it should be less than or equal to 65535"),
        ({"TICKERTAPE_PARALEL": "2"}, "TICKERTAPE_PARALEL is no setting; did you mean TICKERTAPE_PARALLEL?"),
        ({"TICKERTAPE_PORT": "tcp://10.0.0.1:8700"}, "enableServiceLinks: false"),
        ({"TICKERTAPE_KEEP_DAYS": "nan"}, "keep_days"),
        ({"TICKERTAPE_CONFIG": "nowhere.toml"}, "the settings file nowhere.toml is not there"),
        ({"TICKERTAPE_SECRETS_DIR": "nowhere"}, "TICKERTAPE_SECRETS_DIR=nowhere is no directory"),
    ],
)
def test_what_is_wrong_is_told_with_its_name_and_place(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({}, environ=environ)
    assert said in str(caught.value)


def test_every_wrong_setting_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"context": 1}, environ={"TICKERTAPE_GRACE": "-1"})
    assert {line.split()[0] for line in str(caught.value).splitlines()} == {"context", "grace"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("prot = 1", "did you mean port?"), ("port = ", "cannot be read"), ('port = "x"', "port cannot be 'x' (file")],
)
def test_wrong_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"t\.toml") as caught:
        load({}, config=tmp_path / "t.toml", environ={})
    assert said in str(caught.value)


def test_variables_that_kubernetes_adds_beside_a_service_are_no_settings() -> None:
    links = {"TICKERTAPE_SERVICE_HOST": "10.0.0.1", "TICKERTAPE_PORT_8700_TCP_ADDR": "10.0.0.1"}
    assert load({}, environ=links).sources == {}


def test_what_is_shown_can_be_read_back_and_has_no_secret(tmp_path: Path) -> None:
    given = {
        "engine_api_key": "hush",
        "served_model_names": ("a", '"b"'),
        "keep_days": 1.5,
        "db": "postgresql://u:hush@h/d",
    }
    text = shown(load(given, environ={}))
    assert "hush" not in text
    assert "engine_api_key is set, and secret; flag --engine-api-key" in text
    (tmp_path / "t.toml").write_text(text)
    again = load({}, config=tmp_path / "t.toml", environ={}).settings
    assert again.served_model_names == ("a", '"b"')
    assert set(tomllib.loads(text)) <= set(Settings.model_fields)


def test_every_setting_is_a_flag_with_help_and_config_takes_the_same() -> None:
    for command in ("serve", "config"):
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"}).output
        for name, field in Settings.model_fields.items():
            assert f"--{name.replace('_', '-')[:-1]}" in told, "a list's flag names one of its parts"
            assert field.description
            assert field.description[:30] in told


def test_config_command_prints_and_refuses(file: Path) -> None:
    run = CliRunner()
    printed = run.invoke(app, ["config", "--config", str(file), "--engine", "sglang=http://c", "--grace", "7"])
    assert printed.exit_code == 0
    assert 'engines = ["sglang=http://c"]  # flag --engine' in printed.output
    assert "grace = 7  # flag --grace" in printed.output
    refused = run.invoke(app, ["config", "--context", "3"])
    assert refused.exit_code == 1
    assert "context cannot be 3 (flag --context)" in refused.output
