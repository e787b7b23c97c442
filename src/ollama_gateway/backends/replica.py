"""A replica: one model's weights on one backend, and what its attempts have shown of it.

Ollama runs all names that share a file of weights as one, so the names share a replica. Whether the
weights are loaded now, the last poll says (`Backend.has_warm`); the rest is measured here. Nothing
waits or reads a clock; times are seconds on the event loop's clock.

Which loads evict? Ollama unloads other models if the memory does not suffice, or if as many are
loaded as `OLLAMA_MAX_LOADED_MODELS` says (three for each GPU), but it reports neither: `/api/ps`
lists the loaded models with their sizes, and no totals. So any of them may have to go, and a load
evicts nothing in use only where none of the others was used lately (`Backend.may_evict`).
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

import attrs

from ollama_gateway.backends.capacity import LearnedCapacity
from ollama_gateway.backends.prefill import Prefill
from ollama_gateway.backends.work import Work

ASSUMED_SECONDS: Final = 10.0
"""Seconds of a request and of a load, before they are known."""
LEAST_SECONDS: Final = 0.001
"""The shortest request that is believed."""
REMEMBERED_REQUESTS: Final = 20
"""Requests whose durations are remembered."""


@attrs.define(eq=False)
class Replica:
    """One model's weights on one backend."""

    key: str
    """A model key that uses them."""
    capacity: LearnedCapacity = attrs.field(factory=LearnedCapacity, init=False)
    prefill: Prefill = attrs.field(factory=Prefill, init=False)
    work: Work = attrs.field(factory=Work, init=False)
    running: int = attrs.field(default=0, init=False)
    """Attempts, also those that wait in Ollama's queue."""
    loading_since: float | None = attrs.field(default=None, init=False)
    """When the attempt began for which Ollama loads them; None if there is none."""
    context: int | None = attrs.field(default=None, init=False)
    """The context in tokens that the last of its running attempts asked for; None if none did."""
    last_context: int | None = attrs.field(default=0, init=False)
    """The context of the last request that was answered, None for the server's own; 0 at first."""
    has_timed_load: bool = attrs.field(default=False, init=False)
    """Whether `load_seconds` was measured."""
    load_seconds: float = attrs.field(default=ASSUMED_SECONDS, init=False)
    """From the beginning of the last load to its first chunk."""
    request_seconds: float = attrs.field(default=ASSUMED_SECONDS, init=False)
    """The median of the requests that had to wait for no other."""
    _durations: deque[float] = attrs.field(
        factory=lambda: deque(maxlen=REMEMBERED_REQUESTS), init=False
    )

    @property
    def has_timed_requests(self) -> bool:
        """Whether `request_seconds` was measured."""
        return bool(self._durations)

    def begin(self, now: float, *, needs_load: bool) -> None:
        """Note that an attempt begins."""
        if needs_load and not self.running:
            self.loading_since = now
        self.running += 1

    def answered(self, now: float, *, is_timed: bool) -> None:
        """Note a good chunk: they are loaded. The time counts only for a stream (`is_timed`)."""
        if self.loading_since is not None and is_timed:
            self.load_seconds, self.has_timed_load = now - self.loading_since, True
        self.loading_since = None

    def end(self, seconds: float | None) -> None:
        """Note that an attempt ends, and its duration if it had to wait for no other."""
        self.running -= 1
        if not self.running:
            self.loading_since = self.context = None
        if seconds is not None:
            self._durations.append(seconds)
            self.request_seconds = max(median(self._durations), LEAST_SECONDS)

    def load_left(self, now: float) -> float:
        """Return the seconds until a load is expected to end; for a late one, those it is late."""
        if self.loading_since is None:
            return 0.0
        return abs(self.load_seconds - (now - self.loading_since))
