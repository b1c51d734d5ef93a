"""The table of all settings in docs/settings.md, made from the model.

``python -m tickertape.server.commands.settings_table docs/settings.md`` writes it in its place there.
"""

import sys
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tickertape.server.commands.pages import replaced
from tickertape.server.settings import Settings
from tickertape.server.settings.sources import PREFIX, flag_of

_NAME = "settings: python -m tickertape.server.commands.settings_table docs/settings.md"


def table() -> str:
    """Markdown: a row for each setting."""
    rows = ["| in the file | flag | variable | default | |", "|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        said = " ".join((field.description or "").split()).replace("|", "\\|")
        secret = " Secret: better a file." if _is_secret(field) else ""
        rows.append(f"| `{name}` | `{flag_of(name)}` | `{PREFIX}{name.upper()}` | {_default(field)} | {said}{secret} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """A page with its table made anew; raises as :func:`replaced`."""
    return replaced(text, _NAME, table())


def _default(field: FieldInfo) -> str:
    value = field.get_default()
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    shown = ", ".join(value) if isinstance(value, tuple) else value.value if isinstance(value, StrEnum) else value
    return f"`{shown}`"


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr.__name__ in str(field.annotation)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text()))
