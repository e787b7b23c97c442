"""The gauges of a page, read from the parts when the page is asked for, in short steps.

All here is in memory: what a disk knows, `disk_readings.py` has read before. A step looks at one
backend, which may list thousands of models.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import attrs
from prometheus_client import ProcessCollector

from ollama_gateway import clock
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import REMEMBERED_SECONDS, Backends
from ollama_gateway.flow.in_flight import STAGES, RunningRequest
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.ledger.audit import AuditServices
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.metrics import Metrics, running, traffic
from ollama_gateway.metrics.counted import DEFINITIONS
from ollama_gateway.metrics.definitions import Definition
from ollama_gateway.metrics.families import SampleFamily
from ollama_gateway.server.disk_readings import DiskReadings, age_of
from ollama_gateway.wire.large import Steps

if TYPE_CHECKING:  # redis only where it is configured
    from ollama_gateway.backends.shared import CatalogCopier

Reading = tuple[Definition, tuple[str, ...], float]
"""One sample: its metric, its labels, its value."""

BREAKER_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}


@attrs.define(eq=False)
class Readings:
    """Reads the present of one gateway."""

    metrics: Metrics
    backends: Backends
    keys: KeyCache
    limits: Limiter
    audit: AuditServices
    copier: CatalogCopier | None
    disk: DiskReadings
    is_ready: Callable[[], bool]
    connections_open: Callable[[], int]
    stages: Callable[[], Mapping[str, int]]
    """Counts the running requests by where they are."""

    def families(self) -> Steps[list[SampleFamily]]:
        """Return all metrics, counted and read, in the order of their definitions."""
        read: dict[str, SampleFamily] = {}
        for reading in self._all():
            _put(read, reading, self.metrics.overflowed)
            if reading[0] is traffic.BACKEND_UP:
                yield
        found = {**self.metrics.families, **read}
        return [found[name] for name in DEFINITIONS if name in found]

    def _all(self) -> Iterator[Reading]:
        now = clock.now()
        for backend in self.backends.all:
            yield from _of_backend(backend, now)
        unserved = sum(1 for _ in self._unserved(now))
        yield traffic.UNSERVED_MODELS, (), unserved
        yield from self._of_gateway(unserved)
        yield from self._of_stores()
        yield from self._of_disk()
        yield from of_process()
        for part, key_id, limit in self.metrics.near_limits.parts(now):
            yield running.LIMIT_USED, (key_id, limit), part

    def _unserved(self, now: float) -> Iterator[str]:
        """Yield the models that only backends list which are down or paused."""
        live = [b for b in self.backends.all if b.is_up and not b.is_paused and b.listing]
        served = {key for b in live if b.listing for key in b.listing.models}
        known: set[str] = set()
        for backend in self.backends.all if live else ():
            if backend.listing is None or now - backend.listed_at >= REMEMBERED_SECONDS:
                continue
            left = backend.listing.models.keys() - served - known
            known |= left
            yield from left

    def _of_gateway(self, unserved: int) -> Iterator[Reading]:
        yield running.READY, (), self.is_ready()
        yield running.BUILD, build_info(), 1
        yield traffic.CONNECTIONS, (), self.connections_open()
        yield traffic.WAITING, (), len(self.backends.line)
        for stage, count in self.stages().items():
            yield traffic.IN_STAGE, (stage,), count
        down = [b for b in self.backends.all if b.polls and not b.is_up and not b.is_paused]
        causes = {
            "backends_down": bool(down),
            "models_without_backend": bool(unserved),
            "journals_left_alone": bool(self.audit.faults),
            **{f"{store}_away": not up for store, up in self._stores().items()},
        }
        for cause, is_so in causes.items():
            yield running.DEGRADED, (cause,), is_so

    def _stores(self) -> dict[str, bool]:
        """Return whether each store answers."""
        found = {
            "keys": not self.keys.statistics().store_failing,
            "limits": self.limits.store.why_not is None,
            "journal": self.audit.writer.failure is None,
            "usage_journal": not self.limits.usage_journal.is_failing,
        }
        if self.audit.flusher is not None:
            found["postgresql"] = self.audit.flusher.failure is None
        if self.copier is not None:
            found["catalog_copy"] = self.copier.failure is None
        return found

    def _of_stores(self) -> Iterator[Reading]:
        for store, is_up in self._stores().items():
            yield running.STORE_UP, (store,), is_up
        if (ends := self.keys.statistics().next_end) is not None:
            yield running.KEY_ENDS, (), ends.timestamp()
        yield running.SETTLEMENTS, (), self.limits.store.settlements_waiting
        yield running.ROWS_WAITING, (), self.audit.writer.records_waiting
        yield running.ROWS_UNMOVED, (), self.audit.rows_unmoved or 0
        failures = self.audit.flusher.failures if self.audit.flusher else 0
        yield running.FLUSH_FAILURES, (), failures

    def _of_disk(self) -> Iterator[Reading]:
        found = self.disk.found
        yield running.OLDEST_UNMOVED, (), age_of(found.oldest) if self.audit.rows_unmoved else 0
        sizes = {
            running.JOURNAL_BYTES: found.journal_bytes,
            running.DISK_FREE: found.free_bytes,
            running.DISK_SIZE: found.size_bytes,
        }
        for definition, size in sizes.items():
            if size is not None:
                yield definition, (), size
        for owner, ends in found.certificate_ends.items():
            yield running.CERTIFICATE_ENDS, (owner,), ends


def _of_backend(backend: Backend, now: float) -> Iterator[Reading]:
    name = (backend.name,)
    yield traffic.BACKEND_UP, name, backend.is_up
    yield traffic.BACKEND_PAUSED, name, backend.is_paused
    yield traffic.IN_FLIGHT, name, backend.in_flight
    yield traffic.SLOTS, name, backend.slots
    yield traffic.BREAKER_STATE, name, BREAKER_STATES[backend.breaker.state(now)]
    ill = sum(health.breaker.until is not None for health in backend.health.values())
    yield traffic.ILL_MODELS, name, ill
    if (listing := backend.listing) is None:
        return
    yield traffic.BACKEND_INFO, (backend.name, listing.version), 1
    for entry in listing.running.values():
        labels = str(entry["name"]), backend.name
        yield traffic.LOADED_BYTES, labels, _size(entry.get("size"))
        yield traffic.LOADED_VRAM, labels, _size(entry.get("size_vram"))


def _size(said: object) -> float:
    """Return the bytes that a backend tells; 0 for anything else."""
    return float(said) if type(said) is int and 0 <= said < 2**63 else 0.0


def stages_of(requests: Iterable[RunningRequest]) -> Mapping[str, int]:
    """Return how many requests are at each stage."""
    found = Counter(request.stage for request in requests)
    return {stage: found[stage] for stage in STAGES}


def _put(found: dict[str, SampleFamily], reading: Reading, overflow: Callable[[str], None]) -> None:
    definition, labels, value = reading
    if (family := found.get(definition.name)) is None:
        family = found[definition.name] = SampleFamily(definition, overflow)
    family.put(value, *labels)


def figures_of(readings: Iterable[Reading]) -> Mapping[str, SampleFamily]:
    """Return readings by the names of their metrics."""
    found: dict[str, SampleFamily] = {}
    for reading in readings:
        _put(found, reading, lambda _: None)
    return found


@cache
def build_info() -> tuple[str, str]:
    """Return the versions of the gateway and of Python."""
    return version("ollama-gateway"), platform.python_version()


@cache
def _process() -> ProcessCollector:
    return ProcessCollector(registry=None)


def of_process() -> Iterator[Reading]:
    """Read what the kernel knows of this process."""
    for metric in _process().collect():
        definition = DEFINITIONS.get(metric.name)
        if definition is not None:
            yield definition, (), metric.samples[0].value
