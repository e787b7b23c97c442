"""Dashboards and rules against a real Prometheus that scrapes a gateway under load.

It prints what a scrape takes: `pytest -s` shows that.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.metrics.alerts import ALERTS
from tests.metrics.dashboards import FOLDER
from tests.metrics.panels import DASHBOARDS, Panel
from tests.metrics.rules import expressions
from tests.monitoring.conftest import Watched
from tests.support.patience import PATIENCE, wait_until

PANELS = [(name, panel) for name, (_, panels) in DASHBOARDS.items() for panel in panels]
PROVOKED = {
    "Failures by reason",
    "Refused before a key was known",
    "Rejected by a limit",
    "Keys that were refused",
    "Limits nearly exhausted",
}
"""Panels that a fault or a setting fills, which the load has."""


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=lambda given: getattr(given, "title", ""))
def test_a_panel_shows_something(watched: Watched, name: str, panel: Panel) -> None:
    """Prometheus takes each expression, and has data for it where data is expected."""
    for expression, _ in panel.lines:
        if panel.is_always_there or panel.title in PROVOKED:
            wait_until(lambda: bool(watched.prometheus.samples(expression)), expression)  # noqa: B023
        else:
            watched.prometheus.samples(expression)


def test_rates_are_those_of_the_load(watched: Watched) -> None:
    """The dashboards' requests are the ones that clients make: some in each second."""
    rate = "sum(rate(ollama_gateway_request_duration_seconds_count{outcome='completed'}[10s]))"

    wait_until(lambda: bool(watched.prometheus.samples(rate)))

    assert watched.prometheus.value(rate) > 1


def test_prometheus_takes_all_rules(watched: Watched) -> None:
    """Each rule is evaluated without an error, and no alert of a healthy gateway fires."""

    def are_evaluated() -> bool:
        groups = watched.prometheus.ask("rules")["groups"]
        return all(rule["health"] == "ok" for group in groups for rule in group["rules"])

    wait_until(are_evaluated)
    groups = watched.prometheus.ask("rules")["groups"]
    known = {rule["name"]: rule for group in groups for rule in group["rules"]}

    assert set(known) == {name for name, _ in expressions()}
    firing = {name for name in known if known[name].get("state") == "firing"}
    # of a disk or a CPU that the machine shares with others
    assert firing <= {"DiskFull", "LoopLag"}


def test_promtool_takes_the_rules_and_fires_each_alert() -> None:
    """`promtool` checks the rules and runs their tests."""
    for command in (("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")):
        run = _promtool(FOLDER, *command)
        assert run.returncode == 0, run.stdout + run.stderr


def test_an_alert_that_does_not_fire_is_noticed(tmp_path: Path) -> None:
    """The tests of the rules can fail: each does where its alert's condition is never true."""
    rules = (FOLDER / "rules.yml").read_text()
    (tmp_path / "rules_test.yml").write_text((FOLDER / "rules_test.yml").read_text())
    for alert in ALERTS:
        expression = json.dumps(alert.expression)
        assert expression in rules
        (tmp_path / "rules.yml").write_text(rules.replace(expression, '"vector(0) > 1"'))
        run = _promtool(tmp_path, "test", "rules", "rules_test.yml")
        assert run.returncode != 0, alert.name
        assert alert.name in run.stdout + run.stderr


def _promtool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_cost_of_a_scrape(watched: Watched) -> None:
    """Prometheus's own figures of its scrapes are printed, with the lag of the event loop."""
    prometheus = watched.prometheus
    job = '{job="ollama-gateway"}'
    wait_until(lambda: len(prometheus.samples(f"scrape_duration_seconds{job}")) == 1)
    port = watched.fleet.gateways[0].admin_port
    address = f"http://127.0.0.1:{port}/metrics"
    sizes = []
    for encoding in ("identity", "gzip"):
        request = urllib.request.Request(address, headers={"Accept-Encoding": encoding})
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310
            sizes.append(len(response.read()))
    late = "rate(ollama_gateway_event_loop_lag_seconds_bucket[30s])"
    lag = f"histogram_quantile(0.99, sum by (le) ({late}))"
    time.sleep(5)
    slowest = prometheus.value(f"max_over_time(scrape_duration_seconds{job}[5m])")
    print(  # noqa: T201
        f"\nslowest scrape {slowest * 1000:.0f} ms,"
        f" {prometheus.value(f'scrape_samples_scraped{job}'):.0f} samples,"
        f" {sizes[0]} bytes, {sizes[1]} with gzip;"
        f" lag of the event loop p99 {prometheus.value(lag) * 1000:.1f} ms"
    )

    assert slowest < PATIENCE
