"""What `docs/monitoring` says fits what the gateway shows, as far as no Prometheus is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from ollama_gateway.metrics.counted import DEFINITIONS
from ollama_gateway.metrics.definitions import Definition
from tests.docs import metrics as metrics_page
from tests.metrics import dashboards, rules
from tests.metrics.alerts import ALERTS, Alert
from tests.metrics.panels import DASHBOARDS, Panel
from tests.support.scenario import CHAT, open_scenario

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
OF_PROMETHEUS = {"le", "instance", "job"}
SERIES = {
    f"{made.name}{suffix}": made for made in DEFINITIONS.values() for suffix in SUFFIXES[made.kind]
}
"""All names that samples have."""
PANELS = [(name, panel) for name, (_, panels) in DASHBOARDS.items() for panel in panels]
EXPRESSIONS = [
    *((name, expression) for name, panel in PANELS for expression, _ in panel.lines),
    *rules.expressions(),
]


def used(expression: str) -> Iterator[tuple[str, str]]:
    """Yield the metrics of an expression, each with its matchers."""
    yield from re.findall(r"\b((?:ollama_gateway|process)_\w+)(\{[^}]*\})?", expression)


def metrics_of(expression: str) -> list[Definition]:
    """Return the metrics of an expression; fail for one that there is not."""
    return [SERIES[name] for name, _ in used(expression)]


@pytest.mark.parametrize(("place", "expression"), EXPRESSIONS)
def test_an_expression_has_metrics_and_labels_that_exist(place: str, expression: str) -> None:
    """No panel and no alert asks for a series or a label that no page has."""
    for name, matchers in used(expression):
        if name.startswith("ollama_gateway:"):
            continue
        labels = set(re.findall(r"(\w+)(?:=~|!=|=)", matchers))
        assert labels <= {*SERIES[name].labels, *OF_PROMETHEUS}, place
    grouped = {
        label.strip()
        for found in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in found.split(",")
    }
    known = {label for made in metrics_of(expression) for label in made.labels}
    assert grouped <= known | OF_PROMETHEUS, place


def test_every_metric_is_shown_somewhere() -> None:
    """A metric that neither a panel nor an alert shows would be noticed by accident only."""
    shown = {made.name for _, expression in EXPRESSIONS for made in metrics_of(expression)}
    details = {
        "ollama_gateway_waiting",
        "ollama_gateway_processes",
        "ollama_gateway_process_restarts",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
    }

    assert set(DEFINITIONS) - shown <= details


def test_the_files_are_those_of_the_tables() -> None:
    """A changed table has changed files."""
    assert rules.RULES.read_text() == rules.rules()
    assert rules.RULE_TESTS.read_text() == rules.rule_tests()
    for name in DASHBOARDS:
        assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.written(name)


def test_the_page_of_metrics_is_complete() -> None:
    """`docs/operate/metrics.md` has a line for each metric, and no other."""
    assert metrics_page.PAGE.read_text() == metrics_page.written()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_has_a_runbook_and_both_tests(alert: Alert) -> None:
    """Each links to a heading that exists, and has series that fire it and series that do not."""
    page = (rules.ROOT / rules.RUNBOOK).read_text()
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)

    assert alert.anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert alert.fires
    assert alert.stays
    assert alert.stays != alert.fires


def test_no_runbook_is_left_without_its_alert() -> None:
    """A heading below "What to do" is an alert."""
    page = (rules.ROOT / rules.RUNBOOK).read_text().partition("\n## What to do\n")[2]
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)

    assert [h.lower().replace(" ", "-") for h in headings] == [alert.anchor for alert in ALERTS]


def test_dashboards_can_be_imported_side_by_side() -> None:
    """Each has a uid of its own, and asks for its Prometheus; its panels do not overlap."""
    found = [json.loads((dashboards.FOLDER / f"{name}.json").read_text()) for name in DASHBOARDS]

    assert len({one["uid"] for one in found}) == len(found)
    for one in found:
        [variable] = one["templating"]["list"]
        assert (variable["name"], variable["type"]) == ("datasource", "datasource")
        sources = [t["datasource"] for panel in one["panels"] for t in panel["targets"]]
        assert {source["uid"] for source in sources} == {"${datasource}"}
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in one["panels"]}
        assert len(places) == len(one["panels"])


@pytest.mark.virtual_time
async def test_a_gateway_that_serves_has_data_for_the_usual_panels() -> None:
    """Whatever a panel shows that no fault or setting is needed for is on the page after chats."""
    async with open_scenario() as scenario:
        disk = scenario.gateway.admin.readings.disk
        disk.found = disk.read([])
        scenario.gateway.parts.metrics.lag(0.001)
        for streams in (True, False):
            await scenario.ask(body={**CHAT, "stream": streams})
        await scenario.poll()
        page = (await scenario.ask("/metrics", method="GET", is_admin=True)).body.decode()

    there = {re.split(r"[{ ]", line)[0] for line in page.splitlines() if line[0] != "#"}
    missing = {
        (name, panel.title): absent
        for name, panel in PANELS
        if panel.is_always_there and (absent := _metrics(panel) - there)
    }
    needs_a_long_answer = {("models", "Tokens a second of a stream")}
    assert set(missing) <= needs_a_long_answer, missing


def _metrics(panel: Panel) -> set[str]:
    """Return the names of its metrics that need no fault: failures may be absent from a sum."""
    names = {name for expression, _ in panel.lines for name, _ in used(expression)}
    return names - {"ollama_gateway_request_failures_total"}
