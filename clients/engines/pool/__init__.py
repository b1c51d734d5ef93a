"""Many engines behind one: routing, health, versions of weights.

``member`` is one engine and where it stands, ``asking`` one request. ``routing`` chooses among engines that may serve,
``waiting`` is the line of requests that none takes yet, ``pace`` how fast it moves, ``attempt`` one request at one
engine, ``health`` finds out who may serve, ``versions`` says which weights are newer, ``promise`` is what the pool says
of itself, and ``pool`` puts it together.
"""

from tickertape.clients.engines.pool.attempt import Silence
from tickertape.clients.engines.pool.member import Member, MemberState
from tickertape.clients.engines.pool.pool import EnginePool

__all__ = ["EnginePool", "Member", "MemberState", "Silence"]
