"""NOTHING-SILENT: every refusal has a code, and the table of codes in the documentation has them all."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tickertape.clients.engines.errors import Phase
from tickertape.server.commands.error_table import CODES, with_table
from tickertape.server.errors import ProxyError

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "protocols.md"
#: Codes that are put together from parts, by the expression that does it.
MADE_UP = {
    "f'{error.phase}_timeout'": {f"{phase}_timeout" for phase in Phase},
    "f\"{follows.param.removesuffix('_id')}_not_found\"": {"previous_response_not_found"},
}


def codes_in(tree: ast.AST) -> Iterator[str]:
    """What is given as ``code=``, or stands as ``code = …`` in a class or function: error codes, or HTTP statuses."""
    for node in ast.walk(tree):
        if (isinstance(node, ast.keyword) and node.arg == "code") or (
            isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "code" for t in node.targets)
        ):
            yield from texts(node.value)


def texts(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from texts(value.body)
        yield from texts(value.orelse)
    elif isinstance(value, ast.JoinedStr):
        yield from MADE_UP[ast.unparse(value)]


def used() -> set[str]:
    folders = [ROOT / "server", ROOT / "clients" / "engines"]
    return {
        code for folder in folders for path in folder.rglob("*.py") for code in codes_in(ast.parse(path.read_text()))
    }


def test_every_code_is_in_the_table_and_every_one_of_the_table_is_used() -> None:
    assert used() == CODES.keys()


def test_every_refusal_has_a_code() -> None:
    def below(kind: type[ProxyError]) -> Iterator[type[ProxyError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from below(each)

    assert {kind.code for kind in below(ProxyError)} <= CODES.keys()


def test_the_page_has_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_table(text), "python -m tickertape.server.commands.error_table docs/protocols.md"
