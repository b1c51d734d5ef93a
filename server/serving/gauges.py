"""The state of things when it is read: engines, queue, policy, live memory. Nothing here is counted along the way."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tickertape.clients.engines.pool import EnginePool, MemberState
from tickertape.server.calls.limits import Admission
from tickertape.server.calls.recognition import Recognition
from tickertape.server.policy.gate import PolicyGate
from tickertape.server.store.store import Store
from tickertape.server.turns.sessions import Sessions

if TYPE_CHECKING:
    from tickertape.server.turns.turns import Turns


class Gauges(Collector):
    """Gauges of one server. A look at engines costs their number; one at live memory a glance at each live session."""

    def __init__(self, turns: "Turns", recognition: Recognition, admission: Admission) -> None:
        self._turns = turns
        self._admission = admission
        self._recognition = recognition

    def collect(self) -> Iterator[Metric]:
        """See :class:`Collector`."""
        turns = self._turns
        yield from _build(turns.pool)
        yield from _engines(turns.pool)
        yield from _admission(self._admission)
        yield from _store(turns.store)
        yield from _policy(turns.policy)
        yield from _memory(turns.sessions, self._recognition)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _count(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_text, value=value)


def _build(pool: EnginePool) -> Iterator[Metric]:
    info = GaugeMetricFamily("tickertape_build_info", "1, with the version and the model.", labels=("version", "model"))
    info.add_metric((version("tickertape"), pool.model or ""), 1)
    yield info


def _engines(pool: EnginePool) -> Iterator[Metric]:
    states = GaugeMetricFamily("tickertape_engine_state", "1 for the state that an engine is in.", labels=_AND_STATE)
    about = GaugeMetricFamily("tickertape_engine_info", "1, with what an engine is.", labels=_AND_INFO)
    running = GaugeMetricFamily("tickertape_engine_running", "Requests that an engine has now.", labels=_ENGINE)
    tokens = GaugeMetricFamily(
        "tickertape_engine_running_tokens", "Tokens of the requests that an engine has, as expected.", labels=_ENGINE
    )
    requests = CounterMetricFamily(
        "tickertape_engine_requests", "Requests that an engine has ended, by how.", labels=_AND_RESULT
    )
    for member in pool.members.values():
        for state in MemberState:
            states.add_metric((member.name, state.value), member.state is state)
        software = "" if member.info is None else member.info.version
        about.add_metric((member.name, member.kind, software, member.version or ""), 1)
        running.add_metric((member.name,), member.running)
        tokens.add_metric((member.name,), member.running_tokens)
        requests.add_metric((member.name, "served"), member.served)
        requests.add_metric((member.name, "failed"), member.failed)
    yield from (states, about, running, tokens, requests)
    yield _gauge("tickertape_queue_length", "Requests that no engine has taken yet.", pool.waiting)


_ENGINE = ("engine",)
_AND_STATE = ("engine", "state")
_AND_RESULT = ("engine", "result")
_AND_INFO = ("engine", "kind", "version", "policy_version")


def _admission(admission: Admission) -> Iterator[Metric]:
    yield _gauge("tickertape_calls", "Calls of agents under way, those that wait included.", admission.calls)
    yield _count("tickertape_refused_calls", "Calls that were refused for want of room (429).", admission.refused)


def _store(store: Store) -> Iterator[Metric]:
    standing = store.standing
    yield _gauge("tickertape_store_failing", "1 while the tape cannot be written.", standing.failing)
    yield _gauge("tickertape_store_backlog", "Calls whose turns wait in memory for a tape that works.", store.backlog)
    yield _count("tickertape_store_refused_calls", "Calls refused because the tape failed.", standing.refused_in_all)
    yield _count("tickertape_store_late_calls", "Calls whose turns came on tape late.", standing.written_later)
    yield _count("tickertape_commits", "Transactions that put turns on tape, one or many.", store.transactions)


def _policy(policy: PolicyGate) -> Iterator[Metric]:
    info = GaugeMetricFamily("tickertape_policy_info", "1, with the version of the policy.", labels=("policy_version",))
    info.add_metric((policy.version or "",), 1)
    yield info
    yield _gauge("tickertape_paused", "1 while sampling is paused.", policy.paused is not None)
    yield _gauge("tickertape_generations", "Generations under way, those that wait included.", len(policy.runs))


def _memory(sessions: Sessions, recognition: Recognition) -> Iterator[Metric]:
    sizes = [(len(tree), tree.n_tokens) for tree in sessions.live()]
    yield _gauge("tickertape_live_sessions", "Sessions whose trees are in memory.", len(sizes))
    yield _gauge("tickertape_live_turns", "Turns in these trees.", sum(turns for turns, _ in sizes))
    yield _gauge("tickertape_live_token_bytes", "Bytes of tokens in them.", 4 * sum(tokens for _, tokens in sizes))
    yield _gauge("tickertape_recognised_conversations", "Conversations of clients without ids.", len(recognition))
