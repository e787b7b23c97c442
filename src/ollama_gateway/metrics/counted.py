"""What happens, counted as it happens; a model's name is a label only once a backend answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from ollama_gateway.metrics import running, traffic
from ollama_gateway.metrics.definitions import PREFIX, Definition
from ollama_gateway.metrics.exposition import TEXT, render
from ollama_gateway.metrics.families import SampleFamily
from ollama_gateway.metrics.near_limits import NearLimits
from ollama_gateway.reasons import AnyReason, Reason

NO_LABEL: Final = "-"
"""The label of an unknown model or backend."""
MIN_SPEED_TOKENS: Final = 16
"""Tokens of the shortest answer whose speed is counted."""

DEFINITIONS: Final[Mapping[str, Definition]] = {
    made.name: made
    for module in (traffic, running)
    for made in vars(module).values()
    if isinstance(made, Definition)
}
"""All metrics by name, in the order of the page."""


class Metrics:
    """All that one process has counted."""

    def __init__(self) -> None:
        self.families: dict[str, SampleFamily] = {}
        self.near_limits = NearLimits()
        self._overflows = self._family(running.OVERFLOWS)
        self._requests = self._family(traffic.REQUESTS)
        self._refused = self._family(traffic.REFUSED)
        self._limited = self._family(traffic.LIMITED)
        self._failures = self._family(traffic.FAILURES)
        self._duration = self._family(traffic.DURATION)
        self._model_duration = self._family(traffic.MODEL_DURATION)
        self._first_chunk = self._family(traffic.FIRST_CHUNK)
        self._line = self._family(traffic.LINE_SECONDS)
        self._prompt_tokens = self._family(traffic.PROMPT_TOKENS)
        self._tokens = self._family(traffic.TOKENS)
        self._speed = self._family(traffic.SPEED)
        self._underestimates = self._family(traffic.SURPRISES)
        self._attempts = self._family(traffic.ATTEMPTS)
        self._hedges = self._family(traffic.HEDGES)
        self._retries = self._family(traffic.RETRIES)
        self._affinity = self._family(traffic.AFFINITY)
        self._breakers = self._family(traffic.BREAKER_CHANGES)
        self._loads = self._family(traffic.LOADS)
        self._loading = self._family(traffic.LOADING)
        self._last_reload = self._family(running.LAST_RELOAD)
        self._reloaded_at = self._family(running.RELOADED_AT)
        self._traces = self._family(running.TRACES)
        self._restarts = self._family(running.RESTARTS)
        self._lag = self._family(running.LAG)
        self._store_seconds = self._family(running.STORE_SECONDS)
        self._store_errors = self._family(running.STORE_ERRORS)
        self._quota_retries = self._family(running.QUOTA_RETRIES)
        self._loop_late = self._family(running.LOOP_LATE)
        self._last_reload.set(1)
        self._reloaded_at.set(time.time())

    def _family(self, definition: Definition) -> SampleFamily:
        made = self.families[definition.name] = SampleFamily(definition, self.overflowed)
        if not definition.labels and definition.kind != "gauge":
            made.begin_at_zero()
        return made

    def overflowed(self, metric: str) -> None:
        """Count a sample that is counted under `other`."""
        self._overflows.add((metric,))

    def request(self, endpoint: str, model: str | None, backend: str | None, outcome: str) -> None:
        """Count one request with a valid key; name the model only if a backend answered."""
        named = model if backend and model else NO_LABEL
        self._requests.add((endpoint, named, backend or NO_LABEL, outcome))

    def ended_badly(self, outcome: str, reason: AnyReason | None) -> None:
        """Count a request with a valid key that did not complete."""
        self._failures.add((outcome, reason or NO_LABEL))

    def duration(
        self, endpoint: str, outcome: str, model: str | None, backend: str | None, seconds: float
    ) -> None:
        """Record the seconds of a whole request; of a model's only if a backend answered."""
        self._duration.observe((endpoint, outcome), seconds)
        if backend and model:
            self._model_duration.observe((model, backend), seconds)

    def first_chunk(self, endpoint: str, backend: str, seconds: float) -> None:
        """Record the time to the first good chunk of a stream."""
        self._first_chunk.observe((endpoint, backend), seconds)

    def waited(self, seconds: float, *, was_served: bool) -> None:
        """Record the time that a request waited in line."""
        self._line.observe(("served" if was_served else "left",), seconds)

    def tokens(
        self,
        model: str,
        backend: str,
        prompt: int | None,
        cached: int | None,
        output: int | None,
    ) -> None:
        """Count tokens; `cached` says how many of the prompt's a backend had cached, if it did."""
        add = self._tokens.add
        if prompt:
            known = cached or 0
            add((model, backend, "input"), prompt - known)
            add((model, backend, "cached"), known)
            if cached is None:
                self._prompt_tokens.add((model, backend, "unknown"), prompt)
            else:
                self._prompt_tokens.add((model, backend, "hit"), cached)
                self._prompt_tokens.add((model, backend, "miss"), prompt - cached)
        if output:
            add((model, backend, "output"), output)

    def speed(self, model: str, backend: str, tokens: int | None, seconds: float) -> None:
        """Record the tokens a second of a completed stream, unless it was short."""
        if tokens and tokens >= MIN_SPEED_TOKENS and seconds > 0:
            self._speed.observe((model, backend), tokens / seconds)

    def loaded(self, model: str, backend: str, seconds: float | None) -> None:
        """Count a load of a model, and its seconds where a stream has shown them."""
        self._loads.add((model, backend))
        if seconds is not None:
            self._loading.observe((backend,), seconds)

    def attempt(self, backend: str, result: str) -> None:
        """Count one attempt by its result."""
        self._attempts.add((backend, result))

    def refused(self, reason: AnyReason) -> None:
        """Count a request that was refused before a key was known."""
        self._refused.add((reason,))

    def limited(self, limit: Reason) -> None:
        """Count a request rejected by a limit: `rate`, `concurrency`, `budget`, `reads_at_once`."""
        self._limited.add((limit,))

    def underestimated(self, model: str) -> None:
        """Count a prompt that had more tokens than were reserved for it."""
        self._underestimates.add((model,))

    def quota_retried(self) -> None:
        """Count a batch that is sent to the quota store a second time."""
        self._quota_retries.add(())

    def loop_late(self, seconds: float) -> None:
        """Add seconds that the event loop was late while requests waited for the quota store."""
        self._loop_late.add((), seconds)

    def lag(self, seconds: float) -> None:
        """Record by how much the event loop was late."""
        self._lag.observe((), seconds)

    def stored(self, store: str, seconds: float, *, has_failed: bool) -> None:
        """Record one operation of a store."""
        self._store_seconds.observe((store,), seconds)
        if has_failed:
            self._store_errors.add((store,))

    def hedge(self, result: str) -> None:
        """Count a hedge: `started`, `won`, or why it was skipped."""
        self._hedges.add((result,))

    def affinity(self, result: str) -> None:
        """Count an answered request: `new`, `kept`, `moved`, or `none` without a conversation."""
        self._affinity.add((result,))

    def retry(self, result: str) -> None:
        """Count a retry: `started`, or `budget` if the budget refused it."""
        self._retries.add((result,))

    def breaker_changed(self, backend: str, change: str, reason: str) -> None:
        """Count a breaker that `opened` or `closed`."""
        self._breakers.add((backend, change, reason))

    def traces(self, result: str, requests: int) -> None:
        """Count requests whose spans were `exported` or `dropped`."""
        self._traces.add((result,), requests)

    def restarted(self, watcher: str) -> None:
        """Count a restart of a watcher."""
        self._restarts.add((watcher,))

    def reloaded(self, now: float | None) -> None:
        """Note a reload, at a time in seconds since 1970; None if it failed."""
        self._last_reload.set(now is not None)
        if now is not None:
            self._reloaded_at.set(now)

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        """Return a sample of a counter or a gauge by its name without prefix; None without one."""
        family = self.families[f"{PREFIX}{name.removesuffix('_total')}"]
        found = family.cells.get(tuple((labels or {})[name] for name in family.definition.labels))
        return found[0] if found else None

    def page(self) -> bytes:
        """Render all counts for Prometheus, at once; for tests."""
        work = render(self.families.values(), TEXT)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the generator returns
