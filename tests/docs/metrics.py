"""Write `docs/operate/metrics.md` from the definitions: `python -m tests.docs.metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ollama_gateway.metrics import running, traffic
from ollama_gateway.metrics.definitions import MAX_SERIES, Definition

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "operate" / "metrics.md"
HEAD: Final = f"""# Metrics

`GET /metrics` of the admin listener is a page for Prometheus: as text, or as OpenMetrics where the
client asks for it; with gzip where it takes that. [monitoring.md](monitoring.md) has dashboards and
alerts.

- A counter's samples end with `_total`, those of a histogram with `_bucket`, `_count` and `_sum`.
- `model` is a name that a backend lists, and has answered for; `-` stands for no model or backend.
  No prompt, no secret and no name of a key is a label.
- A page has at most {MAX_SERIES:,} series, and each metric the label sets below. Beyond nine tenths
  of them a new model is counted as `other`; beyond the rest all labels are `other`. Sums stay
  right, and `ollama_gateway_metric_overflows_total` says where it happened. Counts begin anew with
  the process.
- Of several processes, counters and histograms are added up, those of ended processes included.
  The column *merged* is the rule for gauges.
- `requests_in_stage` has the stages of [requests in flight](requests.md): `reading`, `limits`,
  `line`, `racing`, `streaming`, `ending`.
- `line_seconds` has the results `served` and `left`: rejected, timed out, or without a client.

| metric | kind | labels | label sets | merged | |
|---|---|---|---|---|---|
"""


def row(made: Definition) -> str:
    """Return the line of one metric."""
    labels = ", ".join(f"`{label}`" for label in made.labels) or "-"
    merged = made.merge if made.kind == "gauge" else "sum"
    most = f"{made.most:,}" if made.labels else "1"
    return f"| `{made.name}` | {made.kind} | {labels} | {most} | {merged} | {made.help} |\n"


def written() -> str:
    """Return the page."""
    made = [m for module in (traffic, running) for m in vars(module).values()]
    return HEAD + "".join([row(one) for one in made if isinstance(one, Definition)])


if __name__ == "__main__":
    PAGE.write_text(written())
