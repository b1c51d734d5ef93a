"""Counters, filled from each turn's own record when it is on tape, and from each HTTP request when it is answered.

Every label has few values: there are no ids among them, nor anything that a client can make up.
"""

import time
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tickertape.server.observing.cheap_counters import Counter, Histogram
from tickertape.server.observing.request_context import note_on_tape
from tickertape.server.trajectories import forks
from tickertape.server.trajectories.turn import Turn

#: ``no_bridge`` says in its own words where a template differs, which is no label.
_NO_BRIDGE = forks.NO_BRIDGE.rstrip(": ")
_TURNS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics(Collector):
    """The counters of one server. All methods are called on the event loop's thread."""

    def __init__(self) -> None:
        self.turns = Counter(
            "tickertape_turns",
            "Turns on tape, by protocol, by how they ended, and by whether the answer was sent while it was sampled.",
            ("dialect", "outcome", "stream"),
        )
        self.prompts = Counter(
            "tickertape_prompts",
            "Prompts made: extension of the newest turn, root of a new tree, or fork (see tickertape_forks_total).",
            ("kind",),
        )
        self.forks = Counter(
            "tickertape_forks", "Turns that do not simply extend the newest one, by reason.", ("reason",)
        )
        self.prompt_tokens = Counter(
            "tickertape_prompt_tokens",
            "Tokens of prompts sent to engines: 'tape' were on tape before and repeated exactly, 'new' were added.",
            ("source",),
        )
        self.cached_tokens = Counter(
            "tickertape_cached_prompt_tokens", "Prompt tokens that engines had in their prefix cache, where they say."
        )
        self.completion_tokens = Counter("tickertape_completion_tokens", "Tokens sampled.")
        self.phases = Histogram(
            "tickertape_phase_seconds",
            "Seconds of a turn by phase: prepare, queue, first_token, engine, parse, commit; 'added' is all of it "
            "but queue and engine.",
            ("phase",),
        )
        self.turn_seconds = Histogram(
            "tickertape_turn_seconds", "Seconds from a request to its turn on tape.", ("dialect", "stream")
        )
        self.commit_failures = Counter("tickertape_commit_failures", "Turns that could not be put on tape.")
        self.http_requests = Counter(
            "tickertape_http_requests",
            "HTTP requests answered, or left by their client.",
            ("method", "route", "status"),
        )
        self.loop_lag = Histogram(
            "tickertape_event_loop_lag_seconds", "By how much a timer of the event loop was late, twice a second."
        )
        self._all = (
            *(self.turns, self.prompts, self.forks, self.prompt_tokens, self.cached_tokens, self.completion_tokens),
            *(self.phases, self.turn_seconds, self.commit_failures, self.http_requests, self.loop_lag),
        )

    def committed(self, turn: Turn, began: float, *, stream: bool) -> None:
        """A turn is on tape.

        Args:
            turn: it.
            began: when its commit began, of ``time.perf_counter``.
            stream: whether its answer is sent while it is sampled.
        """
        self.turns.add(1, turn.dialect, turn.outcome.value, "true" if stream else "false")
        observe = self.phases.observe
        commit_seconds = time.perf_counter() - began
        observe(commit_seconds, "commit")
        note_on_tape(turn, commit_seconds)
        if turn.sampling:  # its prompt was made
            self._count_prompt(turn)
        timings = turn.timings
        if "prepare" in timings:
            observe(timings["prepare"], "prepare")
        queue = timings.get("queue")
        if queue is None:  # no engine got it
            return
        self._count_tokens(turn)
        observe(queue, "queue")
        observe(timings["engine"] - queue, "engine")
        if "first_token" in timings:
            observe(timings["first_token"] - queue, "first_token")
        if "parse" in timings:
            observe(timings["parse"], "parse")

    def taken(self, turns: Sequence[Turn], started: float, *, stream: bool) -> None:
        """A request's turns are all on tape; it came at ``started``, of ``time.perf_counter``."""
        seconds = time.perf_counter() - started
        self.turn_seconds.observe(seconds, turns[0].dialect, "true" if stream else "false")
        self.phases.observe(seconds - max(turn.timings.get("engine", 0.0) for turn in turns), "added")

    def collect(self) -> Iterator[Metric]:
        """See :class:`Collector`."""
        for each in self._all:
            yield from each.collect()

    def _count_prompt(self, turn: Turn) -> None:
        if turn.fork_reason is not None:
            self.prompts.add(1, "fork")
            self.forks.add(1, _NO_BRIDGE if turn.fork_reason.startswith(forks.NO_BRIDGE) else turn.fork_reason)
        else:
            self.prompts.add(1, "root" if turn.parent_id is None else "extension")

    def _count_tokens(self, turn: Turn) -> None:
        n_new = len(turn.prompt_delta)
        self.prompt_tokens.add(n_new, "new")
        self.prompt_tokens.add(turn.usage["prompt_tokens"] - n_new, "tape")
        self.cached_tokens.add(turn.usage.get("cached_tokens", 0))
        self.completion_tokens.add(len(turn.completion))
