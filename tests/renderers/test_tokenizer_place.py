"""Where a tokenizer is looked for, and what is said where there is none."""

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from tickertape.renderers import TokenizerError
from tickertape.renderers.tokenizer_place import find_tokenizer


def test_hub_that_is_away_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library would try for a minute."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    place = find_tokenizer("nobody/nothing")
    assert place.is_local
    assert place.unreached == "127.0.0.1 port 9: Connection refused"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_tokenizer("nobody/nothing").unreached == "HF_HUB_OFFLINE is set"


def test_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:{1}".format(*hub.getsockname()))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        place = find_tokenizer("nobody/nothing")
    assert not place.is_local
    assert "HF_TOKEN" in place.explained(OSError("401\nmore"))


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "127.0.0.1:9"])
def test_proxy_in_front_of_the_hub_is_what_must_be_reached(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    assert find_tokenizer("nobody/nothing").unreached == "127.0.0.1 port 9: Connection refused"


def test_files_and_paths_that_are_no_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenizerError, match="is a file"):
        find_tokenizer(str(tmp_path / "file"))
    for path in ("./nothing", "../nothing", "/nothing/there", "a/b/c", "~/model"):
        with pytest.raises(TokenizerError, match="there is no directory"):
            find_tokenizer(path)
