"""From the parts of a gateway to what a page of metrics reads of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ollama_gateway.build_listeners import certificates_of
from ollama_gateway.configuration import Parts
from ollama_gateway.http.listener import Listener
from ollama_gateway.server.app import App
from ollama_gateway.server.disk_readings import DiskReadings
from ollama_gateway.server.readings import Readings, stages_of
from ollama_gateway.settings import Settings

if TYPE_CHECKING:  # redis only where it is configured
    from ollama_gateway.backends.shared import CatalogCopier


def build_readings(
    settings: Settings,
    parts: Parts,
    copier: CatalogCopier | None,
    app: App,
    listener: Listener,
    *,
    is_ready: Callable[[], bool],
) -> Readings:
    """Build the readings of a gateway; their `disk` is a watcher.

    Args:
        settings: in force at the start.
        parts: of the gateway.
        copier: keeps the copy of the catalog in Redis, if there is a Redis.
        app: of the listener for clients.
        listener: for clients.
        is_ready: whether requests are admitted now.

    """
    audit = parts.audit
    disk = DiskReadings(audit.writer.journal.path, reads_records=audit.flusher is not None)
    disk.certificates = certificates_of(settings)
    return Readings(
        metrics=parts.metrics,
        backends=parts.backends,
        keys=parts.keys,
        limits=parts.limits,
        audit=audit,
        copier=copier,
        disk=disk,
        is_ready=is_ready,
        connections_open=lambda: len(listener.connections),
        stages=lambda: stages_of(app.in_flight),
    )
