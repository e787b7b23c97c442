"""The panels of the dashboards."""

from __future__ import annotations

from typing import Final

import attrs

from tests.metrics.queries import RATE, P, error_ratio, quantile, rate


@attrs.frozen
class Panel:
    """One panel: its title, its unit, and expressions with their legends."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    is_always_there: bool = True
    """Whether a gateway that serves chats has data for it; else only some faults or settings."""


def one(title: str, unit: str, expression: str, legend: str = "", *, rare: bool = False) -> Panel:
    """Return a panel with one expression."""
    return Panel(title, unit, ((expression, legend),), is_always_there=not rare)


def spread(title: str, unit: str, metric: str, *by: str, rare: bool = False) -> Panel:
    """Return a panel with the median and the 95th percentile of a histogram."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    lines = tuple((quantile(p, metric, *by), f"p{p * 100:.0f} {legend}") for p in (0.5, 0.95))
    return Panel(title, unit, lines, is_always_there=not rare)


DASHBOARDS: Final[dict[str, tuple[str, tuple[Panel, ...]]]] = {
    "fleet": (
        "Ollama Gateway: fleet",
        (
            one("Ready", "none", f"max({P}ready)"),
            one(
                "What is lacking",
                "none",
                f"max by (cause) ({P}degraded) > 0",
                "{{cause}}",
                rare=True,
            ),
            one(
                "Requests by outcome",
                "reqps",
                rate("request_duration_seconds_count", "outcome"),
                "{{outcome}}",
            ),
            one(
                "Failures by reason",
                "reqps",
                rate("request_failures_total", "outcome", "reason"),
                "{{outcome}} {{reason}}",
                rare=True,
            ),
            one(
                "Refused before a key was known",
                "reqps",
                rate("refused_total", "reason"),
                "{{reason}}",
                rare=True,
            ),
            one("Share of errors", "percentunit", error_ratio("5m")),
            spread("Duration", "s", "request_duration_seconds", "endpoint"),
            one("Requests by stage", "none", f"sum by (stage) ({P}requests_in_stage)", "{{stage}}"),
            one("Backends up", "none", f"max by (backend) ({P}backend_up)", "{{backend}}"),
            one(
                "Attempts at backends",
                "none",
                f"sum by (backend) ({P}backend_in_flight)",
                "{{backend}}",
            ),
            one("Slots", "none", f"sum by (backend) ({P}backend_slots)", "{{backend}}"),
            one(
                "Versions of backends",
                "none",
                f"max by (backend, version) ({P}backend_info)",
                "{{backend}} {{version}}",
            ),
            one("Connections", "none", f"sum({P}connections)"),
            spread("Lag of the event loop", "s", "event_loop_lag_seconds"),
            one("CPU", "percentunit", f"sum(rate(process_cpu_seconds_total{RATE}))"),
            one("Memory", "bytes", "sum(process_resident_memory_bytes)"),
            one("Open files", "percentunit", "max(process_open_fds / process_max_fds)"),
            one(
                "Watchers that crashed",
                "none",
                rate("watcher_restarts_total", "watcher"),
                "{{watcher}}",
                rare=True,
            ),
            one(
                "Last reload",
                "dateTimeFromNow",
                f"max({P}config_last_reload_success_timestamp_seconds) * 1000",
            ),
            one(
                "Version",
                "none",
                f"max by (version, python) ({P}build_info)",
                "{{version}}, Python {{python}}",
            ),
        ),
    ),
    "models": (
        "Ollama Gateway: models",
        (
            one("Requests by model", "reqps", rate("requests_total", "model"), "{{model}}"),
            spread("Duration by model", "s", "model_request_duration_seconds", "model"),
            spread("First chunk of streams", "s", "first_chunk_seconds", "backend"),
            spread("Tokens a second of a stream", "none", "output_tokens_per_second", "model"),
            one("Tokens by kind", "none", rate("tokens_total", "kind"), "{{kind}}"),
            one(
                "Output tokens by model",
                "none",
                rate("tokens_total", "model", where='{kind="output"}'),
                "{{model}}",
            ),
            one(
                "Prompt tokens by cache", "none", rate("prompt_tokens_total", "cache"), "{{cache}}"
            ),
            one(
                "Loads",
                "none",
                rate("model_loads_total", "model", "backend"),
                "{{model}} {{backend}}",
            ),
            spread("Seconds of a load", "s", "model_load_seconds", "backend"),
            one(
                "Loaded models",
                "bytes",
                f"max by (model, backend) ({P}loaded_model_bytes)",
                "{{model}} {{backend}}",
            ),
            one(
                "On GPUs",
                "bytes",
                f"max by (model, backend) ({P}loaded_model_vram_bytes)",
                "{{model}} {{backend}}",
            ),
            one("Models without a backend", "none", f"max({P}models_without_backend)"),
            one(
                "Models whose breaker is open",
                "none",
                f"max by (backend) ({P}backend_ill_models)",
                "{{backend}}",
            ),
            one(
                "Prompts above their bound",
                "none",
                rate("prompt_surprises_total", "model"),
                "{{model}}",
                rare=True,
            ),
        ),
    ),
    "keys": (
        "Ollama Gateway: keys",
        (
            one(
                "Rejected by a limit",
                "reqps",
                rate("limited_total", "limit"),
                "{{limit}}",
                rare=True,
            ),
            one(
                "Keys that were refused",
                "reqps",
                rate("refused_total", where='{reason="invalid_key"}'),
                rare=True,
            ),
            one(
                "Limits nearly exhausted",
                "percentunit",
                f"max by (key_id, limit) ({P}limit_used_ratio)",
                "{{key_id}} {{limit}}",
                rare=True,
            ),
            one(
                "Next key that ends",
                "dateTimeFromNow",
                f"min({P}next_key_end_timestamp_seconds) * 1000",
                rare=True,
            ),
            one("Settlements that wait", "none", f"sum({P}settlements_waiting)"),
            one("Second tries at Redis", "none", rate("quota_retries_total")),
            one("Late while Redis was asked", "s", rate("loop_late_seconds_total")),
        ),
    ),
    "stores": (
        "Ollama Gateway: audit log and stores",
        (
            one("Stores up", "none", f"min by (store) ({P}store_up)", "{{store}}"),
            spread("Operations", "s", "store_operation_seconds", "store"),
            one(
                "Failed operations",
                "none",
                rate("store_errors_total", "store"),
                "{{store}}",
                rare=True,
            ),
            one("Records not in the journal", "none", f"sum({P}audit_rows_waiting)"),
            one("Records not in PostgreSQL", "none", f"sum({P}audit_rows_unmoved)"),
            one("Age of the oldest of these", "s", f"max({P}audit_oldest_unmoved_seconds)"),
            one("Failed moves", "none", rate("audit_flush_failures_total")),
            one("Journal", "bytes", f"sum({P}journal_bytes)"),
            one(
                "Free disk",
                "percentunit",
                f"min({P}data_disk_free_bytes / {P}data_disk_size_bytes)",
            ),
            one(
                "Certificates end",
                "dateTimeFromNow",
                f"min by (certificate) ({P}certificate_end_timestamp_seconds) * 1000",
                "{{certificate}}",
                rare=True,
            ),
            one(
                "Traces exported or dropped",
                "none",
                rate("traces_total", "result"),
                "{{result}}",
                rare=True,
            ),
            one(
                "Samples under `other`",
                "none",
                rate("metric_overflows_total", "metric"),
                "{{metric}}",
                rare=True,
            ),
        ),
    ),
    "race": (
        "Ollama Gateway: race",
        (
            one("Attempts by result", "reqps", rate("attempts_total", "result"), "{{result}}"),
            one("Attempts by backend", "reqps", rate("attempts_total", "backend"), "{{backend}}"),
            one("Hedges", "none", rate("hedges_total", "result"), "{{result}}", rare=True),
            one("Retries", "none", rate("retries_total", "result"), "{{result}}", rare=True),
            one("Conversations", "none", rate("affinity_total", "result"), "{{result}}"),
            one(
                "Breakers of backends",
                "none",
                f"max by (backend) ({P}breaker_state)",
                "{{backend}}",
            ),
            one(
                "Breakers that opened or closed",
                "none",
                rate("breaker_changes_total", "backend", "change", "reason"),
                "{{backend}} {{change}} {{reason}}",
                rare=True,
            ),
            one("Paused backends", "none", f"min by (backend) ({P}backend_paused)", "{{backend}}"),
            one("Waiting", "none", f"sum({P}waiting)"),
            spread("Time in line", "s", "line_seconds", "result", rare=True),
        ),
    ),
}
"""By the end of its uid and of its file's name: the title, and the panels."""
