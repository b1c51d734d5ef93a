"""The rules of all routes as a table, for people: ``python -m tickertape.server.commands.access_table``."""

from collections.abc import Iterable

from fastapi import APIRouter
from starlette.routing import Route

from tickertape.server.auth.access import Access, access_of

_HEAD = "| route | no key | session key | agent | trainer | admin |\n|---|---|---|---|---|---|"
_CELLS = {
    None: "| no | no | no | no | no |",
    Access.OPEN: "| yes | yes | yes | yes | yes |",
    Access.AGENT: "| no | own | own | yes | yes |",
    Access.TRAINER: "| no | no | no | yes | yes |",
    Access.ADMIN: "| no | no | no | no | yes |",
}


def rules_table(routers: Iterable[APIRouter]) -> str:
    """Markdown, a line for each route, in the order of the application."""
    lines = [_HEAD]
    for router in routers:
        for route in router.routes:
            if isinstance(route, Route):
                methods = ", ".join(sorted(route.methods or ()))
                lines.append(f"| {methods} `{route.path}` {_CELLS[access_of(route.endpoint)]}")
    return "\n".join(lines)


def main() -> None:
    """Prints it."""
    from tickertape.server.serving.app import ROUTERS

    print(rules_table(ROUTERS))


if __name__ == "__main__":
    main()
