"""Reaching out: engines on one side, the trainer's client of this proxy on the other.

The client's names are imported when they are asked for: a server, which reaches engines only, needs no httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tickertape.clients.async_trajectories import AsyncTrajectoryClient
    from tickertape.clients.calls import Lease, LeaseState, Rewards, SamplePage, Summary, TrajectoryError
    from tickertape.clients.open_session import AsyncOpenSession, OpenSession
    from tickertape.clients.samples import Sample
    from tickertape.clients.tape import Session, Turn
    from tickertape.clients.trajectories import TrajectoryClient

__all__ = [
    "AsyncOpenSession",
    "AsyncTrajectoryClient",
    "Lease",
    "LeaseState",
    "OpenSession",
    "Rewards",
    "Sample",
    "SamplePage",
    "Session",
    "Summary",
    "TrajectoryClient",
    "TrajectoryError",
    "Turn",
]

_PLACES = {
    "async_trajectories": ("AsyncTrajectoryClient",),
    "calls": ("Lease", "LeaseState", "Rewards", "SamplePage", "Summary", "TrajectoryError"),
    "open_session": ("AsyncOpenSession", "OpenSession"),
    "samples": ("Sample",),
    "tape": ("Session", "Turn"),
    "trajectories": ("TrajectoryClient",),
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
