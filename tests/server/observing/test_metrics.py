"""What Prometheus is told is what happened: every outcome once, and no label that a client can make up."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.engines import ScriptedEngine
from tests.server.all_kinds import call_all_kinds, outcomes_on_tape, playing
from tests.server.conftest import Proxy, StartProxy, scripted
from tests.server.metrics_table import table

HELLO = [{"role": "user", "content": "Hello"}]


def scrape(proxy: Proxy) -> list[Sample]:
    answer = proxy.http.get("/metrics")
    assert answer.status_code == 200
    return [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    assert found, f"no {name} with {labels}"
    return sum(found)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, ScriptedEngine, list[str]]]:
    """A proxy that has served calls of all kinds, and their sessions."""
    engine = ScriptedEngine(playing("Hi<|im_end|>"))
    with scripted(engine, tmp_path_factory.mktemp("served")) as proxy:
        yield proxy, engine, call_all_kinds(proxy, engine)


Served = tuple[Proxy, ScriptedEngine, list[str]]


def test_every_outcome_is_counted_once(served: Served) -> None:
    proxy, _, sessions = served
    on_tape = outcomes_on_tape(proxy.tape, sessions)
    samples = scrape(proxy)
    counted: dict[tuple[str, str], float] = {}
    for sample in samples:
        if sample.name == "tickertape_turns_total":
            key = (sample.labels["dialect"], sample.labels["outcome"])
            counted[key] = counted.get(key, 0) + sample.value
    assert counted == on_tape
    assert value(samples, "tickertape_phase_seconds_count", phase="commit") == sum(on_tape.values())


def test_tokens_are_those_on_tape(served: Served) -> None:
    proxy, engine, sessions = served
    samples = scrape(proxy)
    turns = [turn for session in sessions for turn in proxy.tape.turns(session)]
    assert value(samples, "tickertape_completion_tokens_total") == sum(len(turn.completion) for turn in turns)
    assert value(samples, "tickertape_prompt_tokens_total") == sum(len(call.prompt_ids) for call in engine.calls)


def test_requests_are_counted_by_route_and_status(served: Served) -> None:
    proxy, _, sessions = served
    before = scrape(proxy)
    route = "/v1/chat/completions"
    assert value(before, "tickertape_http_requests_total", route=route, status="404") == 1  # the model is not served
    proxy.http.get(f"/nowhere/{sessions[0]}")
    proxy.http.request("PURGE", "/metrics")
    after = scrape(proxy)
    assert value(after, "tickertape_http_requests_total", route="", status="404", method="GET") == 1
    assert value(after, "tickertape_http_requests_total", method="other") == 1


def test_nothing_that_a_client_makes_up_is_a_label(served: Served) -> None:
    proxy, _, sessions = served
    values = {text for sample in scrape(proxy) for text in sample.labels.values()}
    made_up = {*sessions, "made-up-by-a-client", *(turn.id for s in sessions for turn in proxy.tape.turns(s))}
    assert not [text for text in values for each in made_up if each in text]


def test_prompts_by_how_they_were_made(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    answer = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    proxy.chat(session, [*HELLO, answer, {"role": "user", "content": "More"}])
    proxy.chat(session, [*HELLO, answer, {"role": "user", "content": "Or else"}])
    proxy.chat(session, [{"role": "user", "content": "Something else"}])
    samples = scrape(proxy)
    kinds = {k: value(samples, "tickertape_prompts_total", kind=k) for k in ("root", "extension", "fork")}
    assert kinds == {"root": 1, "extension": 1, "fork": 2}
    reasons = {s.labels["reason"]: s.value for s in samples if s.name == "tickertape_forks_total"}
    assert reasons == {"sibling": 1, "other_conversation": 1}
    assert value(samples, "tickertape_prompt_tokens_total", source="tape") > 0
    assert value(samples, "tickertape_live_sessions") == 1
    assert value(samples, "tickertape_live_turns") == 4


def test_phases_add_up(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi there<|im_end|>"), delay=0.02))
    proxy.chat(session, HELLO)
    samples = scrape(proxy)
    seconds = {s.labels["phase"]: s.value for s in samples if s.name == "tickertape_phase_seconds_sum"}
    assert set(seconds) == {"prepare", "queue", "first_token", "engine", "parse", "commit", "added"}
    assert 0.01 <= seconds["first_token"] <= seconds["engine"]
    total = value(samples, "tickertape_turn_seconds_sum")
    assert total == pytest.approx(seconds["queue"] + seconds["engine"] + seconds["added"], abs=1e-6)
    assert seconds["prepare"] + seconds["commit"] <= seconds["added"]


def test_engines_and_policy_are_shown_as_they_stand(start_proxy: StartProxy) -> None:
    proxy = start_proxy({"a": ScriptedEngine(playing("Hi<|im_end|>")), "b": ScriptedEngine(playing("Hi<|im_end|>"))})
    proxy.http.post("/admin/policy", json={"version": "7"}).raise_for_status()
    samples = scrape(proxy)
    for name in "ab":
        assert value(samples, "tickertape_engine_state", engine=name, state="ready") == 1
        assert value(samples, "tickertape_engine_state", engine=name) == 1
    assert value(samples, "tickertape_policy_info", policy_version="7") == 1
    assert value(samples, "tickertape_paused") == 0
    assert value(samples, "process_resident_memory_bytes") > 10 * 2**20
    assert value(samples, "process_open_fds") > 3
    assert value(samples, "tickertape_asyncio_tasks") >= 1


def test_servers_in_one_process_count_apart(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    with (
        scripted(ScriptedEngine(playing("Hi<|im_end|>")), tmp_path / "1") as one,
        scripted(ScriptedEngine(playing("Hi<|im_end|>")), tmp_path / "2") as other,
    ):
        one.chat("s", HELLO)
        assert value(scrape(one), "tickertape_turns_total") == 1
        assert "tickertape_turns_total{" not in other.http.get("/metrics").text


def test_openmetrics_is_spoken_to_those_who_ask(start_proxy: StartProxy) -> None:
    proxy = start_proxy(ScriptedEngine(playing("Hi<|im_end|>")))
    answer = proxy.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_the_docs_tell_of_every_metric(served: Served) -> None:
    proxy, _, _ = served
    docs = (Path(__file__).parents[3] / "docs/observability.md").read_text()
    expected = table(proxy.http.get("/metrics").text)
    missing = [row for row in expected.splitlines() if row not in docs]
    assert not missing, "python -m tests.server.metrics_table prints the table"
    told = [line for line in docs.splitlines() if re.match(r"\| `(tickertape|process|python)_", line)]
    assert set(told) <= set(expected.splitlines()), "a metric is told of that there is not"
