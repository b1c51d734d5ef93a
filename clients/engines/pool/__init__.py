"""Many engines behind one: routing, health, versions of weights.

``member`` is one engine and its state, ``request`` one request. ``routing`` chooses among engines that may serve,
``fair_queue`` holds the requests that none takes yet, ``throughput`` says how fast it moves, ``attempt`` is one request
at one engine, ``health`` finds out who may serve, ``versions`` says which weights are newer, ``capabilities`` what the
pool says of itself, and ``pool`` puts it together.
"""

from tickertape.clients.engines.pool.attempt import Silence
from tickertape.clients.engines.pool.member import Member, MemberState
from tickertape.clients.engines.pool.pool import EnginePool
from tickertape.clients.engines.pool.request import EngineRequest

__all__ = ["EnginePool", "EngineRequest", "Member", "MemberState", "Silence"]
