"""Metrics for Prometheus, on a registry of the process's own; changed by plain functions.

Labels are bounded: routes, outcomes and backends are the gateway's own words, and a model's name is
a label only once a backend has answered for it, so that clients cannot make labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from ollama_gateway.reasons import AnyReason, Reason

NO_LABEL = "-"
"""The label of an unknown model or backend."""
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """All metrics of one process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series that is of no use
        registry = self.registry = CollectorRegistry()
        requests = Counter(
            "ollama_gateway_requests",
            "Requests with a valid key.",
            ["endpoint", "model", "backend", "outcome"],
            registry=registry,
        )
        first_chunk = Histogram(
            "ollama_gateway_first_chunk_seconds",
            "Seconds from arrival to the first good chunk.",
            ["endpoint", "backend"],
            buckets=_SECONDS,
            registry=registry,
        )
        attempts = Counter(
            "ollama_gateway_attempts",
            "Requests made to backends.",
            ["backend", "result"],
            registry=registry,
        )
        self._refused = Counter(
            "ollama_gateway_refused",
            "Requests that were refused before a key was known.",
            ["reason"],
            registry=registry,
        )
        self._limited = Counter(
            "ollama_gateway_limited",
            "Requests rejected by a limit of their key.",
            ["limit"],
            registry=registry,
        )
        prompt_tokens = Counter(
            "ollama_gateway_prompt_tokens",
            "Tokens of prompts by what the backend tells of its cache: hit, miss, or unknown.",
            ["model", "backend", "cache"],
            registry=registry,
        )
        self._underestimates = Counter(
            "ollama_gateway_prompt_surprises",
            "Prompts that had more tokens than were reserved for them.",
            ["model"],
            registry=registry,
        )
        self._settlements = Gauge(
            "ollama_gateway_settlements_waiting",
            "Ended reservations that the quota store has not confirmed.",
            registry=registry,
        )
        self._quota_retries = Counter(
            "ollama_gateway_quota_retries",
            "Batches that were sent to the quota store a second time.",
            registry=registry,
        )
        self._loop_late = Counter(
            "ollama_gateway_loop_late_seconds",
            "Seconds that this process was late while requests waited for the quota store.",
            registry=registry,
        )
        self._hedges = Counter(
            "ollama_gateway_hedges",
            "Second attempts beside a slow one: started, won, or the reason why none was started.",
            ["result"],
            registry=registry,
        )
        affinity = Counter(
            "ollama_gateway_affinity",
            "Requests that a backend answered: whether their conversation kept its backend.",
            ["result"],
            registry=registry,
        )
        self._retries = Counter(
            "ollama_gateway_retries",
            "Further attempts at failing backends: started, or refused by the retry budget.",
            ["result"],
            registry=registry,
        )
        self._breakers = Counter(
            "ollama_gateway_breaker_changes",
            "Circuit breakers that opened or closed, with the reason.",
            ["backend", "change", "reason"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "ollama_gateway_backend_in_flight",
            "Running attempts that occupy a slot of the backend.",
            ["backend"],
            registry=registry,
        )
        self._waiting = Gauge(
            "ollama_gateway_waiting",
            "Requests that wait for a free slot.",
            registry=registry,
        )
        self._unmoved = Gauge(
            "ollama_gateway_audit_rows_unmoved",
            "Audit records in the journal that are not in PostgreSQL yet.",
            registry=registry,
        )
        self._audit_rows = Gauge(
            "ollama_gateway_audit_rows_waiting",
            "Audit records that are not in the journal yet.",
            registry=registry,
        )
        self._traces = Counter(
            "ollama_gateway_traces",
            "Requests whose spans were exported, or dropped since the collector did not take them.",
            ["result"],
            registry=registry,
        )
        self._restarts = Counter(
            "ollama_gateway_watcher_restarts",
            "Watchers that crashed and were started again.",
            ["watcher"],
            registry=registry,
        )
        self._last_reload = Gauge(
            "ollama_gateway_config_last_reload_successful",
            "Whether the last reload put the settings in force; 1 before the first.",
            registry=registry,
        )
        self._last_reload.set(1)
        self._reloaded_at = Gauge(
            "ollama_gateway_config_last_reload_success_timestamp_seconds",
            "When settings were last put in force, by a start or a reload, in seconds since 1970.",
            registry=registry,
        )
        self._reloaded_at.set_to_current_time()
        self._up = Gauge(
            "ollama_gateway_backend_up", "1 while a backend is up.", ["backend"], registry=registry
        )
        self._connections = Gauge(
            "ollama_gateway_connections", "Open client connections.", registry=registry
        )
        # Each request changes these five, so their children are cached; their labels are bounded.
        self._requests = cache(requests.labels)
        self._first_chunk = cache(first_chunk.labels)
        self._attempts = cache(attempts.labels)
        self._affinity = cache(affinity.labels)
        self._prompt_tokens = cache(prompt_tokens.labels)

    def request(self, endpoint: str, model: str | None, backend: str | None, outcome: str) -> None:
        """Count one request with a valid key; name the model only if a backend answered."""
        named = model if backend and model else NO_LABEL
        self._requests(endpoint, named, backend or NO_LABEL, outcome).inc()

    def first_chunk(self, endpoint: str, backend: str, seconds: float) -> None:
        """Record the time to the first good chunk."""
        self._first_chunk(endpoint, backend).observe(seconds)

    def prompt(self, model: str, backend: str, tokens: int, cached: int | None) -> None:
        """Count a prompt's tokens; `cached` says how many a backend had in its cache, if it did."""
        if cached is None:
            self._prompt_tokens(model, backend, "unknown").inc(tokens)
        else:
            self._prompt_tokens(model, backend, "hit").inc(cached)
            self._prompt_tokens(model, backend, "miss").inc(tokens - cached)

    def attempt(self, backend: str, result: str) -> None:
        """Count one attempt by its result."""
        self._attempts(backend, result).inc()

    def refused(self, reason: AnyReason) -> None:
        """Count a request that was refused before a key was known."""
        self._refused.labels(reason).inc()

    def limited(self, limit: Reason) -> None:
        """Count a request rejected by a limit: `rate`, `concurrency`, `budget`, `reads_at_once`."""
        self._limited.labels(limit).inc()

    def underestimated(self, model: str) -> None:
        """Count a prompt that had more tokens than were reserved for it."""
        self._underestimates.labels(model).inc()

    def settlements(self, count: int) -> None:
        """Set how many settlements wait for the quota store."""
        self._settlements.set(count)

    def quota_retried(self) -> None:
        """Count a batch that is sent to the quota store a second time."""
        self._quota_retries.inc()

    def loop_late(self, seconds: float) -> None:
        """Add seconds that the event loop was late."""
        self._loop_late.inc(seconds)

    def hedge(self, result: str) -> None:
        """Count a hedge: `started`, `won`, or why it was skipped."""
        self._hedges.labels(result).inc()

    def affinity(self, result: str) -> None:
        """Count an answered request: `new`, `kept`, `moved`, or `none` without a conversation."""
        self._affinity(result).inc()

    def retry(self, result: str) -> None:
        """Count a retry: `started`, or `budget` if the budget refused it."""
        self._retries.labels(result).inc()

    def breaker_changed(self, backend: str, change: str, reason: str) -> None:
        """Count a breaker that `opened` or `closed`."""
        self._breakers.labels(backend, change, reason).inc()

    def waiting(self, count: int) -> None:
        """Set how many requests wait in line."""
        self._waiting.set(count)

    def audit_rows_unmoved(self, count: int) -> None:
        """Set how many audit records of the journal are not in PostgreSQL yet."""
        self._unmoved.set(count)

    def audit_rows_waiting(self, count: int) -> None:
        """Set how many audit records wait for the journal."""
        self._audit_rows.set(count)

    def traces(self, result: str, requests: int) -> None:
        """Count requests whose spans were `exported` or `dropped`."""
        self._traces.labels(result).inc(requests)

    def restarted(self, watcher: str) -> None:
        """Count a restart of a watcher."""
        self._restarts.labels(watcher).inc()

    def backends(self, present: Mapping[str, tuple[bool, int]]) -> None:
        """Set whether each backend is up, and how many attempts occupy it; forget all others."""
        self._up.clear()
        self._in_flight.clear()
        for name, (is_up, attempts) in present.items():
            self._up.labels(name).set(is_up)
            self._in_flight.labels(name).set(attempts)

    def reloaded(self, now: float | None) -> None:
        """Note a reload, at a time in seconds since 1970; None if it failed."""
        self._last_reload.set(now is not None)
        if now is not None:
            self._reloaded_at.set(now)

    def connections(self, count: int) -> None:
        """Set how many client connections are open."""
        self._connections.set(count)

    def page(self) -> bytes:
        """Render the page that Prometheus scrapes."""
        return generate_latest(self.registry)
