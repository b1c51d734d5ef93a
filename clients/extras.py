"""Optional packages: what an extra lacks here, and the command that installs it.

The command names the packages themselves, so that it works however this package was installed: from a clone, or from a
wheel.
"""

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

_DISTRIBUTION = "tickertape"


def missing(extra: str) -> list[str]:
    """The requirements of an extra that are not met here, such as ``xllamacpp>=2026.1``."""
    return [shown for requirement, shown in _requirements(extra) if not _is_met(requirement)]


def needs(what: str, extra: str) -> str:
    """A sentence for people: what needs the extra, and how to install what is missing of it."""
    packages = " ".join(f"'{each}'" for each in missing(extra) or [shown for _, shown in _requirements(extra)])
    return f"{what} needs packages that are not installed: pip install {packages} (the extra '{extra}')"


def _requirements(extra: str) -> list[tuple[Requirement, str]]:
    """Those that the extra adds for this platform, each as pip takes it."""
    found = []
    for line in requires(_DISTRIBUTION) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            requirement.marker = None
            found.append((requirement, str(requirement)))
    return found


def _is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
