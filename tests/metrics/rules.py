"""Write the alerts as rules for Prometheus, and their tests: `python -m tests.metrics.rules`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.metrics.alerts import ALERTS, Alert
from tests.metrics.queries import WINDOWS, error_ratio, errors

ROOT: Final = Path(__file__).parent.parent.parent
RULES: Final = ROOT / "docs" / "monitoring" / "rules.yml"
RULE_TESTS: Final = ROOT / "docs" / "monitoring" / "rules_test.yml"
RUNBOOK: Final = "docs/operate/monitoring.md"


def expressions() -> Iterator[tuple[str, str]]:
    """Yield the name and the expression of each rule."""
    yield from ((errors(window), error_ratio(window)) for window in WINDOWS)
    yield from ((alert.name, alert.expression) for alert in ALERTS)


def rules() -> str:
    """Return the rules for Prometheus."""
    lines = [
        "# Rules for Prometheus. docs/operate/monitoring.md says what to do for each alert.",
        "# Written by `python -m tests.metrics.rules`; rules_test.yml shows each alert fire.",
        "groups:",
        "  - name: ollama-gateway-records",
        "    rules:",
    ]
    for window in WINDOWS:
        lines += [
            f"      - record: {errors(window)}",
            f"        expr: {json.dumps(error_ratio(window))}",
        ]
    lines += ["  - name: ollama-gateway-alerts", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expression)}",
            f"        for: {alert.lasts}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          runbook_url: {RUNBOOK}#{alert.anchor}",
        ]
    return "\n".join([*lines, ""])


def rule_tests() -> str:
    """Return the tests of the alerts, for promtool."""
    lines = [
        "# `promtool test rules rules_test.yml`: each alert fires, and does not.",
        "# Written by `python -m tests.metrics.rules`.",
        "rule_files:",
        "  - rules.yml",
        "evaluation_interval: 1m",
        "tests:",
    ]
    for alert in ALERTS:
        for fires in (True, False):
            lines += _rule_test(alert, fires=fires)
    return "\n".join([*lines, ""])


def _rule_test(alert: Alert, *, fires: bool) -> list[str]:
    series = alert.fires if fires else alert.stays
    lines = [
        f"  - name: {alert.name} {'fires' if fires else 'does not fire'}",
        "    interval: 1m",
        "    input_series:",
    ]
    for name, values in series.items():
        lines += [f"      - series: {json.dumps(name)}", f"        values: {json.dumps(values)}"]
    lines += [
        "    alert_rule_test:",
        f"      - eval_time: {alert.at}",
        f"        alertname: {alert.name}",
    ]
    if not fires:
        return [*lines, "        exp_alerts: []"]
    summary = re.sub(r"{{ \$labels\.(\w+) }}", lambda m: alert.labels[m[1]], alert.summary)
    labels = {**alert.labels, "severity": alert.severity}
    return [
        *lines,
        "        exp_alerts:",
        f"          - exp_labels: {json.dumps(labels)}",
        "            exp_annotations:",
        f"              summary: {json.dumps(summary)}",
        f"              runbook_url: {RUNBOOK}#{alert.anchor}",
    ]


if __name__ == "__main__":
    RULES.parent.mkdir(exist_ok=True)
    RULES.write_text(rules())
    RULE_TESTS.write_text(rule_tests())
