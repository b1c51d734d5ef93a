"""The rooms, and what each may know: imports point downwards only.

This table is the plan of the house. A file that belongs to no room fails, and so does an import that its room's row does
not list. ``docs/architecture.md`` says what each room is for.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What everything in ``server/`` may know: the loose files at its top.
COMMON = {"server"}
ENGINES = {"clients/engines"}
TREE = {"server/trajectories", "renderers", "clients", *COMMON}

#: A room, and the other rooms that it may import from.
ROOMS: dict[str, set[str]] = {
    "renderers": set(),
    "clients": set(),
    "clients/engines": {"clients", "renderers"},
    "server": {"clients/engines", "server/commands"},  # errors name engines' failures; __main__ starts the commands
    "server/trajectories": {"renderers", "clients", *COMMON},
    "server/store": {"server/trajectories", "clients", *COMMON},
    "server/http": {*COMMON},
    "server/settings": {"renderers", "server/auth", "server/observing", "server/store", *ENGINES, *COMMON},
    "server/auth": {"server/settings", "server/store", *COMMON},
    "server/observing": {"clients", "server/settings", "server/trajectories", *ENGINES, *COMMON},
    "server/policy": {"server/store", *ENGINES, *COMMON},
    "server/turns": {"server/observing", "server/policy", "server/store", *ENGINES, *TREE},
    "server/dialects": {"server/turns", *ENGINES, *TREE},
    "server/calls": {
        *("server/auth", "server/dialects", "server/http", "server/observing", "server/policy", "server/settings"),
        *("server/store", "server/turns", *ENGINES, *TREE),
    },
    "server/routes": {
        *("server/auth", "server/calls", "server/dialects", "server/observing", "server/policy", "server/store"),
        *("server/turns", *ENGINES, *TREE),
    },
    "server/serving": {
        *("server/auth", "server/calls", "server/dialects", "server/http", "server/observing", "server/policy"),
        *("server/routes", "server/settings", "server/store", "server/turns", *ENGINES, *TREE),
    },
    "server/commands": {
        *("server/auth", "server/routes", "server/serving", "server/settings", "server/store", "server/turns"),
        *(*ENGINES, *TREE),
    },
}
#: Libraries that a room must not know, by the beginnings of their names.
FOREIGN = {
    "renderers": ("asyncio", "fastapi", "starlette", "aiohttp", "httpx", "sqlalchemy"),
    "clients": ("fastapi", "starlette", "sqlalchemy"),
    "clients/engines": ("fastapi", "starlette", "sqlalchemy"),
    "server/trajectories": ("fastapi", "starlette", "sqlalchemy", "aiohttp"),
    "server/dialects": ("fastapi", "starlette", "sqlalchemy", "aiohttp"),
    "server/turns": ("fastapi", "starlette", "aiohttp"),
    "server/policy": ("fastapi", "starlette", "aiohttp"),
    "server/store": ("fastapi", "starlette", "aiohttp"),
}
#: Loose files at the top of ``server/``, beside ``__init__`` and ``__main__``.
MOST_LOOSE = 6


def room_of(path: Path) -> str:
    """The room of a file, by its path from the root."""
    top, *inner = path.parts
    if top == "server":
        return f"server/{inner[0]}" if len(inner) > 1 else "server"
    return "clients/engines" if top == "clients" and len(inner) > 1 else top


def files() -> Iterator[Path]:
    for top in ("renderers", "clients", "server"):
        yield from (path.relative_to(ROOT) for path in sorted((ROOT / top).rglob("*.py")))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(module: str) -> Path | None:
    """The file of one of our modules; ``None`` for other names."""
    inner = module.removeprefix("tickertape.").replace(".", "/")
    found = (Path(name) for name in (f"{inner}.py", f"{inner}/__init__.py") if (ROOT / name).exists())
    return next(found, None) if module.startswith("tickertape.") else None


def test_every_file_is_in_a_room() -> None:
    assert {room_of(path) for path in files()} == ROOMS.keys()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_what_its_rule_lists_and_no_more(room: str) -> None:
    for path in (path for path in files() if room_of(path) == room):
        for name in imports(path):
            assert not name.startswith(FOREIGN.get(room, ("tickertape.nothing",))), f"{path} imports {name}"
            target = file_of(name)
            if target is not None and (other := room_of(target)) != room:
                assert other in ROOMS[room], f"{path} imports {name}: {room} must not know {other}"


def test_few_files_are_loose() -> None:
    loose = [path for path in (ROOT / "server").glob("*.py") if not path.name.startswith("__")]
    assert len(loose) <= MOST_LOOSE, loose
