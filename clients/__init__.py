"""Reaching out: engines on one side, the trainer's client of this proxy on the other."""

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
