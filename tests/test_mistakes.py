"""What a person is told who makes a typical mistake; the documentation shows the same."""

import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from tests.engines import ScriptedEngine
from tests.mistakes import CALLS, MISTAKES, NOWHERE, Mistake, WrongCall, called, model_directory
from tests.server.conftest import scripted
from tickertape.server.commands.cli import app
from tickertape.server.commands.pages import replaced

PAGE = Path(__file__).parent.parent / "docs" / "command-line.md"
UPDATE = "UPDATE_DOCS=1 pytest tests/test_mistakes.py"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server that asks for no key, one that does, a web page, a tokenizer's directory."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"<!doctype html><html><head><title>It works!</title></head><body>Hello</body></html>")

        do_POST = do_GET  # noqa: N815  (the library's name)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    page = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    open_, guarded = tmp_path_factory.mktemp("open"), tmp_path_factory.mktemp("guarded")
    with scripted(engine, open_) as proxy, scripted(engine, guarded, api_key="k" * 40, admin_key="k" * 40) as locked:
        yield {
            "url": proxy.url,
            "guarded": locked.url,
            "page": f"http://127.0.0.1:{page.server_port}",
            "model": str(model_directory()),
        }
    page.shutdown()
    page.server_close()


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own, no hub, a free port; and what `serve` changes of this process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TICKERTAPE_PORT", "0")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    handlers, on_term = logging.getLogger().handlers, signal.getsignal(signal.SIGTERM)
    yield
    logging.getLogger().handlers = handlers
    signal.signal(signal.SIGTERM, on_term)


def made(mistake: Mistake, places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Makes the mistake, and returns the exit code."""
    mistake.before(Path.cwd())
    for name, value in mistake.environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        app(mistake.typed.format(**places).split(), prog_name="tickertape")
    return int(left.value.code or 0)


def shown(text: str, places: dict[str, str], folder: Path) -> str:
    """The same on every machine: no frames, no addresses, no folders of this one."""
    text = re.sub(r"[─│╭╮╰╯]+( Error )?", " ", text)
    names = {"url": "http://127.0.0.1:8700", "guarded": "http://127.0.0.1:8700", "page": "http://127.0.0.1:8080"}
    for name, place in places.items():
        text = text.replace(place, names.get(name, "Qwen/Qwen3-8B"))
    return " ".join(text.replace(str(folder), "/home/me").split())


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_mistakes_are_reported_in_words_that_help(
    mistake: Mistake,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = made(mistake, places, monkeypatch)
    output = capsys.readouterr()
    text = shown(output.err, places, tmp_path)
    text = text[max(text.find("tickertape: "), 0) :]  # behind lines that say what is being done
    assert code == mistake.exit_code, text
    assert mistake.says in text
    assert "Traceback" not in text
    assert not output.out
    assert not (tmp_path / "typo.db").exists()
    row = f"| {mistake.what} | `{typed(mistake)}` | {escaped(text)} | {code} |"
    check_page("commands", row)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.what)
def test_agents_are_told_what_would_be_right(call: WrongCall, places: dict[str, str], tmp_path: Path) -> None:
    text = shown(called(call, places["url"] if call.key is None else places["guarded"]), places, tmp_path)
    assert call.says in text
    check_page("calls", f"| {call.what} | {f'`{call.shown}`' if call.shown else ''} | {escaped(text)} |")


def typed(mistake: Mistake) -> str:
    names = {"url": "http://127.0.0.1:8700", "guarded": "http://127.0.0.1:8700", "page": "http://127.0.0.1:8080"}
    variables = "".join(f"{name}={value} " for name, value in mistake.environ.items())
    return f"{variables}tickertape {mistake.typed.format(**names, model='Qwen/Qwen3-8B')}"


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


HEADS = {"commands": ("mistake", "typed", "said", "exit code"), "calls": ("mistake", "base URL", "answer")}
_rows: dict[str, list[str]] = {"commands": [], "calls": []}


def check_page(name: str, row: str) -> None:
    """The page has this row; or, if it is to be written, gets it."""
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_DOCS"):
        _rows[name].append(row)
        head = [f"| {' | '.join(HEADS[name])} |", "|" + "---|" * len(HEADS[name])]
        PAGE.write_text(replaced(page, f"{name}: {UPDATE}", "\n".join([*head, *_rows[name]])), encoding="utf-8")
    else:
        assert row in page.splitlines(), f"not in {PAGE.name}: {row}\n{UPDATE}"
