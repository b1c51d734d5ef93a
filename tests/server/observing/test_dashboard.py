"""What Grafana and Prometheus are told to ask exists: in the scrape of a server that has served calls of all kinds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.engines import ScriptedEngine
from tests.server.all_kinds import call_all_kinds, playing
from tests.server.conftest import scripted

DOCKER = Path(__file__).parents[3] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/tickertape.json").read_text())
ALERTS = yaml.safe_load((DOCKER / "alerts.yml").read_text())
RULES = {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {f"{panel['title']} {t['refId']}": t["expr"] for panel in PANELS for t in panel["targets"]}
#: What Prometheus adds to every sample, and the one series that it makes itself.
TARGET_LABELS = {"job", "instance"}
MADE_BY_PROMETHEUS = {"up"}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """For each name in a scrape, its labels and their values."""
    engine = ScriptedEngine(playing("Hi<|im_end|>"))
    with scripted(engine, tmp_path_factory.mktemp("served")) as proxy:
        call_all_kinds(proxy, engine)
        text = proxy.http.get("/metrics").text
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for name, value in sample.labels.items():
                found.setdefault(sample.name, {}).setdefault(name, set()).add(value)
            found.setdefault(sample.name, {})
    return found


def parsed(query: str) -> Any:
    """Grafana's variables stand for values that PromQL knows."""
    return promql_parser.parse(query.replace("$__rate_interval", "1m").replace("$instance", ".*"))


def parts(expression: Any) -> Iterator[Any]:
    """The expression and all that it is made of."""
    yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if (part := getattr(expression, name, None)) is not None:
            yield from parts(part)
    for part in getattr(expression, "args", ()):
        yield from parts(part)


def selectors(expression: Any) -> Iterator[Any]:
    return (part for part in parts(expression) if isinstance(part, promql_parser.VectorSelector))


@pytest.mark.parametrize("query", [*QUERIES.values(), *RULES.values()], ids=[*QUERIES, *RULES])
def test_every_name_that_is_asked_for_is_there(query: str, labels: dict[str, dict[str, set[str]]]) -> None:
    expression = parsed(query)
    asked = list(selectors(expression))
    assert asked
    for selector in asked:
        if selector.name in MADE_BY_PROMETHEUS:
            continue
        assert selector.name in labels, "no such metric"
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels[selector.name] or matcher.name in TARGET_LABELS, "no such label"
    known = {label for selector in asked for label in labels.get(selector.name, ())} | TARGET_LABELS
    for part in parts(expression):
        grouped = getattr(getattr(part, "modifier", None), "labels", None)
        assert set(grouped or ()) <= known, "no such label"


@pytest.mark.parametrize("query", [*QUERIES.values(), *RULES.values()], ids=[*QUERIES, *RULES])
def test_every_value_that_is_asked_for_can_be_there(query: str, labels: dict[str, dict[str, set[str]]]) -> None:
    for selector in selectors(parsed(query)):
        for matcher in selector.matchers.matchers:
            if matcher.name not in TARGET_LABELS:
                values = labels[selector.name][matcher.name]
                for wanted in matcher.value.split("|"):
                    assert any(re.fullmatch(wanted, value) for value in values), f"never {matcher.name}={wanted}"


def test_what_legends_and_summaries_name_is_a_label_of_what_they_tell() -> None:
    legends = [(t["expr"], set(re.findall(r"{{(\w+)}}", t["legendFormat"]))) for p in PANELS for t in p["targets"]]
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    legends += [(rule["expr"], set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))) for rule in rules]
    for query, named in legends:
        aggregates = [p for p in parts(parsed(query)) if isinstance(p, promql_parser.AggregateExpr)]
        if aggregates:
            kept = {label for each in aggregates if each.modifier for label in each.modifier.labels}
            assert named <= kept, query


def test_every_metric_of_ours_is_on_the_dashboard(labels: dict[str, dict[str, set[str]]]) -> None:
    shown = {selector.name for query in QUERIES.values() for selector in selectors(parsed(query))}
    variables = " ".join(json.dumps(each["query"]) for each in DASHBOARD["templating"]["list"])
    ours = {name for name in labels if name.startswith("tickertape_") and not name.endswith(("_count", "_sum"))}
    missing = {name for name in ours - shown if name not in variables}
    assert missing == {"tickertape_policy_info"}  # what engines really have is shown instead


def test_prometheus_reads_the_rules_and_grafana_the_dashboard() -> None:
    prometheus = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    assert [(DOCKER / name).exists() for name in prometheus["rule_files"]] == [True]
    assert {job["job_name"] for job in prometheus["scrape_configs"]} == {"tickertape"}
    provisioning = DOCKER / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/tickertape.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
