"""What a server does not wait for: modules that it needs later or never are not imported when it starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.materials import qwen3_dir
from tickertape.server.store.store import Store

#: All that `tickertape serve` imports before it listens, and on a tape that is of this version.
_START = """
import sys
from tickertape.server import __main__
import tickertape.server.commands.cli
from tickertape.server.serving.app import create_app
from tickertape.server.serving.assembly import make_parts
from tickertape.server.settings import Settings
from tickertape.server.store.store import Store

tape, tokenizer = sys.argv[1:]
settings = Settings(db=tape, engines=("vllm=http://127.0.0.1:9",), model=tokenizer)
parts = make_parts(settings, say=print)
assert parts.choice.renderer.name == "qwen3"
Store(settings.db, serving=True).close()
print(*(name for name in sys.modules if "." not in name))
"""


@pytest.mark.slow
def test_a_server_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    tape = str(tmp_path / "tape.db")
    Store(tape).close()
    command = [sys.executable, "-c", _START, tape, str(qwen3_dir())]
    imported = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert {"tokenizers", "tiktoken", "jinja2", "sqlalchemy", "fastapi", "aiohttp"} <= imported
    assert imported.isdisjoint({"transformers", "torch", "huggingface_hub", "alembic", "httpx", "llama_cpp", "psycopg"})


def test_help_needs_no_more_than_the_settings() -> None:
    program = "import tickertape.server.commands.cli, sys; print(*(name for name in sys.modules if '.' not in name))"
    imported = set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )
    assert {"typer", "pydantic_settings"} <= imported
    heavy = {
        "aiohttp",
        "fastapi",
        "httpx",
        "jinja2",
        "numpy",
        "pyarrow",
        "sqlalchemy",
        "tiktoken",
        "tokenizers",
        "uvicorn",
    }
    assert imported.isdisjoint(heavy)
