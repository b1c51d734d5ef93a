"""Imports point downwards only: server → clients, renderers; clients → renderers' tokenizer at most."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Folder to what it must not import.
FORBIDDEN = {
    "renderers": ("tickertape.server", "tickertape.clients", "fastapi", "aiohttp", "httpx", "sqlalchemy", "asyncio"),
    "clients": ("tickertape.server", "fastapi", "sqlalchemy"),
    "server/trajectories": ("tickertape.server.store", "tickertape.server.routes", "fastapi", "sqlalchemy", "aiohttp"),
    "server/dialects": ("tickertape.server.store", "tickertape.server.routes", "fastapi", "sqlalchemy", "aiohttp"),
    "server/store": ("tickertape.server.routes", "tickertape.server.dialects", "fastapi"),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_downwards(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            assert not name.startswith(FORBIDDEN[folder]), f"{path.relative_to(ROOT)} imports {name}"
