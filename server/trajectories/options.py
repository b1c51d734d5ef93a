"""The options of samples that a trainer may choose."""

import re
from dataclasses import dataclass
from enum import StrEnum

from tickertape.server.trajectories.outcomes import Outcome

#: Of policy versions' numbers: the tape's integers have 64 bits.
LARGEST = 10**18


class Cut(StrEnum):
    """The place where a sample that is too long ends."""

    TURN = "turn"
    """After the last turn that fits completely."""
    TOKEN = "token"  # noqa: S105
    """At the length itself, inside a turn if need be; the sample says so."""


class OptionError(ValueError):
    """Options that contradict each other or name what is not there.

    Attributes:
        param: the option.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """Options of how samples are made. A turn that an option leaves out is still read by the turns after it, with loss
    mask 0.

    Raises:
        OptionError: they cannot be meant.
    """

    per_turn: bool = False
    """Each sampled turn is a sample of its own, and trained in it alone; else each root-to-leaf path is one."""
    max_length: int | None = None
    """Tokens of a sample at most."""
    cut: Cut = Cut.TURN
    outcomes: tuple[Outcome, ...] | None = None
    """Train turns with these outcomes only; ``None``: with any."""
    drop_outcomes: tuple[Outcome, ...] = ()
    """Do not train turns with these."""
    min_version: int | None = None
    """Train turns only that were sampled, to the last token, with a policy version of this number or a later one."""
    current_version: str | None = None
    max_staleness: int | None = None
    """With ``current_version``: the same as a ``min_version`` of its number less this."""

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise OptionError(f"max_length is {self.max_length}: it must be 1 or more tokens", "max_length")
        if (self.current_version is None) != (self.max_staleness is None):
            raise OptionError("current_version and max_staleness go together: send both or none", "max_staleness")
        if self.max_staleness is not None and self.max_staleness < 0:
            raise OptionError(f"max_staleness is {self.max_staleness}: it must be 0 or more", "max_staleness")
        if self.current_version is not None and version_number(self.current_version) is None:
            raise OptionError(f"current_version {self.current_version!r} holds no number", "current_version")

    @property
    def oldest(self) -> int | None:
        """The least number of a policy version that is trained; ``None``: any is."""
        bounds = [] if self.min_version is None else [self.min_version]
        if self.current_version is not None and self.max_staleness is not None:
            bounds.append((version_number(self.current_version) or 0) - self.max_staleness)
        # Within what the tape's integers can hold; no version's number is beyond it.
        return max((max(-LARGEST, min(LARGEST, bound)) for bound in bounds), default=None)

    def allows(self, outcome: str) -> bool:
        """Returns True if turns with this outcome are trained."""
        return (self.outcomes is None or outcome in self.outcomes) and outcome not in self.drop_outcomes


def version_number(version: str | None) -> int | None:
    """The number by which policy versions are compared: the last digits in the name, so that ``step-12`` is 12.
    ``None`` for a version without digits, or none. Numbers of 19 digits and more count as :data:`LARGEST`."""
    digits = re.findall(r"\d+", version or "")
    if not digits:
        return None
    return LARGEST if len(digits[-1].lstrip("0")) > 18 else int(digits[-1][-18:])
