"""How a running gateway is: whether it admits requests, what it lacks, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.control.backends import BackendDocument, backend_document
from ollama_gateway.control.degraded import degraded_backends
from ollama_gateway.ledger.audit import AuditServices
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.printable import printable
from ollama_gateway.wire.large import Steps

if TYPE_CHECKING:  # redis only where it is configured
    from ollama_gateway.backends.shared import CatalogCopier
    from ollama_gateway.storage.redis_faults import RedisFault

StatusDocument = dict[str, Any]


@attrs.define(eq=False)
class GatewayStatus:
    """The state of one process's gateway, as its parts tell it."""

    backends: Backends
    limits: Limiter
    audit: AuditServices
    copier: CatalogCopier | None
    """Keeps the copy of the catalog in Redis, if there is a Redis."""
    keys_are_readable: Callable[[], bool]
    keys_are_degraded: Callable[[], bool]
    """Whether only keys that were seen lately can be checked."""
    settings_file: Path | None
    """The file that the settings come from."""
    requests_running: Callable[[], int]
    connections_open: Callable[[], int]
    is_draining: bool = False

    def why_not_ready(self) -> list[str]:
        """Return the reasons why no request can be admitted now; empty if the gateway is ready."""
        reasons = []
        if self.is_draining:
            reasons.append("draining")
        up = [backend for backend in self.backends.all if backend.is_up]
        if not up:
            reasons.append("no backend is up")
        elif all(backend.is_paused for backend in up):
            reasons.append("all backends are paused")
        if not self.keys_are_readable():
            reasons.append("the key store does not answer")
        if self.limits.store.why_not is not None:
            reasons.append(self.limits.store.why_not)
        if self.audit.writer.why_not is not None:
            reasons.append(self.audit.writer.why_not)
        return reasons

    def degraded(self, *, named: bool = True) -> list[str]:
        """Return the faults that do not keep known clients out, with or without names."""
        found = degraded_backends(self.backends, anyio.current_time(), named=named)
        if self.keys_are_degraded():
            found.append("the key store does not answer: known keys only")
        if self.audit.flusher is not None and self.audit.flusher.failure is not None:
            found.append("audit records wait for PostgreSQL")
        if self.audit.writer.failure is not None and not self.audit.writer.is_strict:
            found.append("the audit journal cannot be written: a restart would lose records")
        if self.limits.usage_journal.is_failing:
            found.append("the usage journal cannot be written: a restart would lose usage")
        if (fault := self._copy_fault()) is not None:
            found.append(f"the copy of the catalog in Redis is not up to date: {fault.line}")
        return found

    def readiness(self, *, named: bool = True) -> StatusDocument:
        """Return whether it is ready, and why not."""
        reasons = self.why_not_ready()
        return {"ready": not reasons, "reasons": reasons, "degraded": self.degraded(named=named)}

    def document(self) -> Steps[StatusDocument]:
        """Return everything, in steps."""
        backends: list[BackendDocument] = []
        for backend in self.backends.all:
            yield
            backends.append(backend_document(backend, anyio.current_time()))
        return {
            **self.readiness(),
            "settings": self.settings_file and printable(str(self.settings_file)),
            "requests": self.requests_running(),
            "connections": self.connections_open(),
            "waiting": len(self.backends.line),
            "models": len(self.backends.catalog.models),
            "limits": self._limits(),
            "catalog_copy": {
                "cause": fault.word if (fault := self._copy_fault()) else None,
                "why_not": fault.line if fault else None,
            },
            "audit": self._audit(),
            "backends": backends,
        }

    def _limits(self) -> StatusDocument:
        return {
            "store": self.limits.store.name,
            "why_not": self.limits.store.why_not,
            "cause": self.limits.store.cause,
            "requests": self.limits.open,
            "settlements_waiting": self.limits.store.settlements_waiting,
            "spending_file_failing": self.limits.usage_journal.is_failing,
        }

    def _audit(self) -> StatusDocument:
        return {
            "mode": "strict" if self.audit.writer.is_strict else "buffered",
            "journal": self.audit.writer.journal.path.name,
            "rows": self.audit.writer.journal.head.seq,
            "rows_waiting": self.audit.writer.records_waiting,
            "failing": self.audit.writer.failure is not None,
            "rows_unmoved": self.audit.rows_unmoved,
            "left_alone": "; ".join(self.audit.faults) or None,
        }

    def _copy_fault(self) -> RedisFault | None:
        return None if self.copier is None else self.copier.failure
