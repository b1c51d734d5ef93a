"""What of the metadata depends on where the source is published. Everything else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

#: The repository's address, without a slash at the end. Nothing is published yet: fill it in here, and the project's
#: URLs and the README's links follow.
REPOSITORY = ""


def readme() -> str:
    """README.md with links that lead somewhere outside the repository, or, while there is no address, without links."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    target = rf"[\1]({REPOSITORY}/blob/main/\2)" if REPOSITORY else r"\1"
    return re.sub(r"\[([^\]]+)\]\((?!https?://|#)([^)]+)\)", target, text)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    project_urls={
        "Source": REPOSITORY,
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    }
    if REPOSITORY
    else {},
)
