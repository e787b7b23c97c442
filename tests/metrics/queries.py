"""What alerts and panels ask Prometheus."""

from __future__ import annotations

from typing import Final

RATE: Final = "[$__rate_interval]"
P: Final = "ollama_gateway_"

FAILED: Final = f'{P}request_failures_total{{outcome=~"upstream_failed|timed_out|killed"}}'
TURNED_AWAY: Final = (
    f'{P}request_failures_total{{outcome="refused",reason=~"audit_unavailable|backends_down|'
    "backends_full|bodies_full|internal|keys_unavailable|queue_full|queue_timeout|"
    'quota_unavailable"}'
)
"""Requests that the gateway refused for a fault that is not their client's."""
ENDED: Final = f"{P}request_duration_seconds_count"
WINDOWS: Final = ("5m", "30m", "1h", "6h")


def errors(window: str) -> str:
    """Return the share of requests that failed, as the name of its recording rule."""
    return f"ollama_gateway:errors:ratio_rate{window}"


def error_ratio(window: str) -> str:
    """Return what that rule records."""
    parts = [f"(sum(rate({series}[{window}])) or vector(0))" for series in (FAILED, TURNED_AWAY)]
    return f"({' + '.join(parts)}) / sum(rate({ENDED}[{window}]))"


def rate(metric: str, *by: str, where: str = "") -> str:
    """Return the sum of a counter's rate."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({P}{metric}{where}{RATE}))"


def quantile(part: float, metric: str, *by: str) -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({part}, {rate(f'{metric}_bucket', 'le', *by)})"
