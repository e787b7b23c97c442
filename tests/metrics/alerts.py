"""The alerts of `docs/monitoring`, each with series that fire it and series that do not.

`rules.py` writes them for Prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import attrs

from tests.metrics.queries import ENDED, P, errors

Series = Mapping[str, str]
"""Values by series, in promtool's notation, one a minute."""


@attrs.frozen
class Alert:
    """One alert."""

    name: str
    expression: str
    lasts: str
    """How long the expression must hold."""
    severity: str
    """`page` wakes a person, `ticket` waits for the day."""
    summary: str
    fires: Series
    stays: Series
    labels: Mapping[str, str] = attrs.field(factory=dict)
    """The labels of the alert that fires in the test."""
    at: str = "30m"
    """When the test looks."""

    @property
    def anchor(self) -> str:
        """The heading of its runbook, as a link names it."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.name).lower()


LAG = f"{P}event_loop_lag_seconds_bucket"
CHUNK = f"{P}first_chunk_seconds_bucket"
LINE = f"{P}line_seconds_bucket"
ALERTS: Final = (
    Alert(
        "GatewayDown",
        'up{job="ollama-gateway"} == 0',
        "1m",
        "page",
        "The gateway {{ $labels.instance }} does not answer.",
        {'up{job="ollama-gateway",instance="g1"}': "1x5 0x60"},
        {'up{job="ollama-gateway",instance="g1"}': "1x60"},
        {"job": "ollama-gateway", "instance": "g1"},
    ),
    Alert(
        "NotReady",
        f"{P}ready == 0",
        "1m",
        "page",
        "The gateway admits no requests.",
        {f"{P}ready": "1x5 0x60"},
        {f"{P}ready": "1x29 0 1x30"},
    ),
    Alert(
        "BackendDown",
        f"{P}backend_up == 0 and {P}backend_paused == 0",
        "2m",
        "ticket",
        "The backend {{ $labels.backend }} is down.",
        {f'{P}backend_up{{backend="a"}}': "0x60", f'{P}backend_paused{{backend="a"}}': "0x60"},
        {f'{P}backend_up{{backend="a"}}': "0x60", f'{P}backend_paused{{backend="a"}}': "1x60"},
        {"backend": "a"},
    ),
    Alert(
        "ModelWithoutBackend",
        f"{P}models_without_backend > 0",
        "2m",
        "page",
        "Models have no backend that is up.",
        {f"{P}models_without_backend": "2x60"},
        {f"{P}models_without_backend": "0x60"},
    ),
    Alert(
        "LineTooLong",
        f"histogram_quantile(0.9, sum by (le) (rate({LINE}[5m]))) > 30 or sum({P}waiting) > 100",
        "5m",
        "page",
        "Requests wait long for a backend.",
        {
            f'{LINE}{{result="served",le="30.0"}}': "0+10x60",
            f'{LINE}{{result="served",le="60.0"}}': "0+60x60",
            f'{LINE}{{result="served",le="+Inf"}}': "0+60x60",
        },
        {
            f'{LINE}{{result="served",le="30.0"}}': "0+60x60",
            f'{LINE}{{result="served",le="60.0"}}': "0+60x60",
            f'{LINE}{{result="served",le="+Inf"}}': "0+60x60",
            f"{P}waiting": "20x60",
        },
    ),
    Alert(
        "FirstChunkSlow",
        f"histogram_quantile(0.9, sum by (le, endpoint) (rate({CHUNK}[10m]))) > 30",
        "10m",
        "ticket",
        "Streams of {{ $labels.endpoint }} begin late.",
        {
            f'{CHUNK}{{endpoint="/api/chat",backend="a",le="30.0"}}': "0+10x60",
            f'{CHUNK}{{endpoint="/api/chat",backend="a",le="60.0"}}': "0+60x60",
            f'{CHUNK}{{endpoint="/api/chat",backend="a",le="+Inf"}}': "0+60x60",
        },
        {
            f'{CHUNK}{{endpoint="/api/chat",backend="a",le="30.0"}}': "0+59x60",
            f'{CHUNK}{{endpoint="/api/chat",backend="a",le="60.0"}}': "0+60x60",
            f'{CHUNK}{{endpoint="/api/chat",backend="a",le="+Inf"}}': "0+60x60",
        },
        {"endpoint": "/api/chat"},
    ),
    Alert(
        "ErrorBudgetBurnsFast",
        f"{errors('5m')} > 0.072 and {errors('1h')} > 0.072",
        "2m",
        "page",
        "A month's errors (0.5 % of requests) would be used up in two days.",
        {
            f'{P}request_failures_total{{outcome="upstream_failed",reason="x"}}': "0+10x120",
            f'{ENDED}{{endpoint="/api/chat",outcome="completed"}}': "0+90x120",
            f'{ENDED}{{endpoint="/api/chat",outcome="upstream_failed"}}': "0+10x120",
        },
        {
            f'{P}request_failures_total{{outcome="refused",reason="rate"}}': "0+50x120",
            f'{P}request_failures_total{{outcome="timed_out",reason="x"}}': "0+1x120",
            f'{ENDED}{{endpoint="/api/chat",outcome="completed"}}': "0+49x120",
            f'{ENDED}{{endpoint="/api/chat",outcome="refused"}}': "0+50x120",
            f'{ENDED}{{endpoint="/api/chat",outcome="timed_out"}}': "0+1x120",
        },
        at="100m",
    ),
    Alert(
        "ErrorBudgetBurnsSlowly",
        f"{errors('30m')} > 0.03 and {errors('6h')} > 0.03",
        "15m",
        "ticket",
        "A month's errors (0.5 % of requests) would be used up in five days.",
        {
            f'{P}request_failures_total{{outcome="refused",reason="queue_full"}}': "0+4x500",
            f'{ENDED}{{endpoint="/api/chat",outcome="completed"}}': "0+96x500",
            f'{ENDED}{{endpoint="/api/chat",outcome="refused"}}': "0+4x500",
        },
        {
            f'{P}request_failures_total{{outcome="client_gone",reason="client_gone"}}': "0+20x500",
            f'{ENDED}{{endpoint="/api/chat",outcome="completed"}}': "0+80x500",
            f'{ENDED}{{endpoint="/api/chat",outcome="client_gone"}}': "0+20x500",
        },
        at="480m",
    ),
    Alert(
        "StoreAway",
        f"{P}store_up == 0",
        "1m",
        "page",
        "The store {{ $labels.store }} does not answer.",
        {f'{P}store_up{{store="keys"}}': "1x5 0x60"},
        {f'{P}store_up{{store="keys"}}': "1x60"},
        {"store": "keys"},
    ),
    Alert(
        "AuditLogLagging",
        f"{P}audit_oldest_unmoved_seconds > 600",
        "5m",
        "ticket",
        "Audit records do not move to PostgreSQL.",
        {f"{P}audit_oldest_unmoved_seconds": "0+60x60"},
        {f"{P}audit_oldest_unmoved_seconds": "5x60"},
    ),
    Alert(
        "AuditLogRefusing",
        f'sum(rate({P}request_failures_total{{reason="audit_unavailable"}}[5m])) > 0',
        "0m",
        "page",
        "Requests are refused, as their records could be lost.",
        {f'{P}request_failures_total{{outcome="refused",reason="audit_unavailable"}}': "0+1x60"},
        {f'{P}request_failures_total{{outcome="refused",reason="audit_unavailable"}}': "7x60"},
    ),
    Alert(
        "BreakerFlapping",
        f'sum by (backend) (increase({P}breaker_changes_total{{change="opened"}}[15m])) > 4',
        "0m",
        "ticket",
        "The breakers of {{ $labels.backend }} open again and again.",
        {f'{P}breaker_changes_total{{backend="a",change="opened",reason="x"}}': "0+1x60"},
        {f'{P}breaker_changes_total{{backend="a",change="opened",reason="x"}}': "0x20 1x40"},
        {"backend": "a"},
    ),
    Alert(
        "HedgesAtCap",
        f'sum(rate({P}hedges_total{{result="budget"}}[15m]))'
        f' > sum(rate({P}hedges_total{{result="started"}}[15m]))',
        "15m",
        "ticket",
        "More hedges are refused by race.max_hedge_ratio than started.",
        {
            f'{P}hedges_total{{result="budget"}}': "0+5x60",
            f'{P}hedges_total{{result="started"}}': "0+2x60",
        },
        {
            f'{P}hedges_total{{result="budget"}}': "0+1x60",
            f'{P}hedges_total{{result="started"}}': "0+2x60",
        },
        at="45m",
    ),
    Alert(
        "ReloadFailed",
        f"{P}config_last_reload_successful == 0",
        "0m",
        "ticket",
        "The settings file is wrong; the settings in force are older ones.",
        {f"{P}config_last_reload_successful": "1x5 0x60"},
        {f"{P}config_last_reload_successful": "1x60"},
    ),
    Alert(
        "CertificateEnds",
        f"{P}certificate_end_timestamp_seconds - time() < 14 * 86400",
        "10m",
        "ticket",
        "The certificate of {{ $labels.certificate }} ends within two weeks.",
        {f'{P}certificate_end_timestamp_seconds{{certificate="listener"}}': "100000x60"},
        {f'{P}certificate_end_timestamp_seconds{{certificate="listener"}}': "2000000x60"},
        {"certificate": "listener"},
    ),
    Alert(
        "KeyEnds",
        f"{P}next_key_end_timestamp_seconds - time() < 3 * 86400",
        "10m",
        "ticket",
        "An API key in use ends within three days.",
        {f"{P}next_key_end_timestamp_seconds": "100000x60"},
        {f"{P}next_key_end_timestamp_seconds": "2000000x60"},
    ),
    Alert(
        "LoopLag",
        f"histogram_quantile(0.99, sum by (le, instance) (rate({LAG}[5m]))) > 0.1",
        "5m",
        "ticket",
        "The gateway {{ $labels.instance }} is short of CPU.",
        {
            f'{LAG}{{instance="g1",le="0.1"}}': "0+500x60",
            f'{LAG}{{instance="g1",le="0.25"}}': "0+600x60",
            f'{LAG}{{instance="g1",le="+Inf"}}': "0+600x60",
        },
        {
            f'{LAG}{{instance="g1",le="0.1"}}': "0+599x60",
            f'{LAG}{{instance="g1",le="0.25"}}': "0+600x60",
            f'{LAG}{{instance="g1",le="+Inf"}}': "0+600x60",
        },
        {"instance": "g1"},
    ),
    Alert(
        "DiskFull",
        f"{P}data_disk_free_bytes / {P}data_disk_size_bytes < 0.1",
        "5m",
        "page",
        "The disk with storage.data_dir is nearly full.",
        {f"{P}data_disk_free_bytes": "5x60", f"{P}data_disk_size_bytes": "100x60"},
        {f"{P}data_disk_free_bytes": "50x60", f"{P}data_disk_size_bytes": "100x60"},
    ),
    Alert(
        "WatcherCrashing",
        f"sum by (watcher) (increase({P}watcher_restarts_total[15m])) > 3",
        "0m",
        "ticket",
        "The watcher {{ $labels.watcher }} crashes again and again.",
        {f'{P}watcher_restarts_total{{watcher="audit"}}': "0+1x60"},
        {f'{P}watcher_restarts_total{{watcher="audit"}}': "0x20 1x40"},
        {"watcher": "audit"},
    ),
)
