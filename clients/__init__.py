"""Reaching out: engines on one side, the trainer's client of this proxy on the other."""

from tickertape.clients.tape import Sample, Session, Turn
from tickertape.clients.trajectories import AsyncTrajectoryClient, TrajectoryClient, TrajectoryError

__all__ = ["AsyncTrajectoryClient", "Sample", "Session", "TrajectoryClient", "TrajectoryError", "Turn"]
