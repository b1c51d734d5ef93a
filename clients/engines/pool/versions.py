"""Which weights are newer."""


class VersionOrder:
    """Numbers compare as numbers; all other names in the order in which they were first noted."""

    def __init__(self) -> None:
        self._noted: dict[str, int] = {}

    def note(self, version: str) -> None:
        """A version that is expected, or that an engine has."""
        self._noted.setdefault(version, len(self._noted))

    def at_least(self, version: str | None, least: str) -> bool:
        """Returns True if ``version`` is known to be ``least`` or newer. Of names that were never noted nothing is
        known."""
        if version is None or version == least:
            return version == least
        ours, theirs = _number(version), _number(least)
        if ours is not None and theirs is not None:
            return ours >= theirs
        places = self._noted.get(version), self._noted.get(least)
        return places[0] is not None and places[1] is not None and places[0] >= places[1]


def _number(version: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(version)
        except ValueError:
            continue
    return None
