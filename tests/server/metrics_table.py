"""The table of metrics in the docs, as a scrape says it: ``python -m tests.server.metrics_table`` prints it."""

import tempfile
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.engines import ScriptedEngine
from tests.server.all_kinds import call_all_kinds, playing
from tests.server.conftest import scripted


def table(scrape: str) -> str:
    """Of a server that has served calls of all kinds, so that every label is there."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in text_string_to_metric_families(scrape):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({f"`{label}`" for sample in family.samples for label in sample.labels if label != "le"})
        rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(rows)


def main() -> None:
    engine = ScriptedEngine(playing("Hi<|im_end|>"))
    with tempfile.TemporaryDirectory() as directory, scripted(engine, Path(directory)) as proxy:
        call_all_kinds(proxy, engine)
        print(table(proxy.http.get("/metrics").text))


if __name__ == "__main__":
    main()
