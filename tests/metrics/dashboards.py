"""The Grafana dashboards of `docs/monitoring`: `python -m tests.metrics.dashboards` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.metrics.panels import DASHBOARDS, Panel

FOLDER: Final = Path(__file__).parent.parent.parent / "docs" / "monitoring"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WIDTH: Final = 12
HEIGHT: Final = 8


def document(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"ollama-gateway-{name}",
        "title": title,
        "tags": ["ollama-gateway"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(place, panel) for place, panel in enumerate(panels)],
    }


def _panel(place: int, panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
        }
        for number, (expression, legend) in enumerate(panel.lines)
    ]
    return {
        "id": place + 1,
        "title": panel.title,
        "type": "timeseries",
        "datasource": SOURCE,
        "gridPos": {"x": place % 2 * WIDTH, "y": place // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def written(name: str) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(document(name), indent=1) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(written(name))
