"""The admin listener: health, readiness, metrics, status; never on the public address.

`admin_access.py` decides which requests it answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote

import anyio
import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import names
from ollama_gateway.errors import BadRequest, NotFound
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.changing_heads import ADVICE, ChangingHeads
from ollama_gateway.flow.hedging import Hedging
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.keys.key import APIKey, KeyRefused, Principal, utc_now
from ollama_gateway.ledger.audit import AuditServices
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.printable import printable
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.degraded import degraded_backends
from ollama_gateway.server.explain import explain_all, facts_of
from ollama_gateway.server.metrics_page import respond_with_page
from ollama_gateway.server.readings import Readings
from ollama_gateway.server.reload_handlers import JSON_HEADERS, Reloader
from ollama_gateway.server.routes import Routes
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.names import ModelName

if TYPE_CHECKING:  # redis only where it is configured
    from ollama_gateway.backends.shared import CatalogCopier
    from ollama_gateway.storage.redis_faults import RedisFault

ANYONE: Final = Principal("", "", ("*", "*cloud"), frozenset())
"""Stands for a key that may use all models, where none is named."""


@attrs.define(eq=False)
class Admin:
    """Handlers of the admin listener."""

    backends: Backends
    names: Resolver
    readings: Readings
    access: AdminAccess
    keys_are_readable: Callable[[], bool]
    keys_are_degraded: Callable[[], bool]
    """Whether only keys that were seen lately can be checked."""
    limits: Limiter
    copier: CatalogCopier | None
    """Keeps the copy of the catalog in Redis, if there is a Redis."""
    audit: AuditServices
    hedging: Hedging
    heads: ChangingHeads
    find_key: Callable[[str], Awaitable[APIKey]]
    """Finds a key by its id or name; raises KeyRefused if there is no such key."""
    settings_file: Path | None
    """The file that the settings come from."""
    requests_running: Callable[[], int]
    connections_open: Callable[[], int]
    reloader: Reloader | None = None
    """None if the settings come from a parent."""
    is_draining: bool = False

    def routes(self) -> Routes:
        """Return the routes of the admin listener."""
        handlers = {
            "/healthz": self.health,
            "/readyz": self.ready,
            "/metrics": self.figures,
            "/status.json": self.status,
            "/models.json": self.models,
        }
        under = {"/limits": self.usage, "/explain": self.explain}
        return self.access.routes(handlers, under, self.reloader)

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

    def _copy_fault(self) -> RedisFault | None:
        return None if self.copier is None else self.copier.failure

    async def health(self, ask: Ask) -> None:
        """Answer `/healthz`: the process is alive."""
        await ask.downstream.respond(200, JSON_HEADERS, b'{"alive":true}')

    async def ready(self, ask: Ask) -> None:
        """Answer `/readyz`: 200, or 503 with the reasons."""
        reasons = self.why_not_ready()
        degraded = self.degraded(named=self.access.may_see_names(ask))
        body = {"ready": not reasons, "reasons": reasons, "degraded": degraded}
        status = 503 if reasons else 200
        await ask.downstream.respond(status, JSON_HEADERS, json.dumps(body).encode())

    async def figures(self, ask: Ask) -> None:
        """Answer `/metrics`, for Prometheus."""
        await respond_with_page(ask, await in_turns(self.readings.families()))

    async def status(self, ask: Ask) -> None:
        """Answer `/status.json`, which `gatewayctl` and dashboards read."""
        now = anyio.current_time()
        status = {
            "ready": not self.why_not_ready(),
            "reasons": self.why_not_ready(),
            "degraded": self.degraded(),
            "settings": self.settings_file and printable(str(self.settings_file)),
            "requests": self.requests_running(),
            "connections": self.connections_open(),
            "waiting": len(self.backends.line),
            "models": len(self.backends.catalog.models),
            "limits": {
                "store": self.limits.store.name,
                "why_not": self.limits.store.why_not,
                "cause": self.limits.store.cause,
                "requests": self.limits.open,
                "settlements_waiting": self.limits.store.settlements_waiting,
                "spending_file_failing": self.limits.usage_journal.is_failing,
            },
            "catalog_copy": {
                "cause": fault.word if (fault := self._copy_fault()) else None,
                "why_not": fault.line if fault else None,
            },
            "audit": {
                "mode": "strict" if self.audit.writer.is_strict else "buffered",
                "journal": self.audit.writer.journal.path.name,
                "rows": self.audit.writer.journal.head.seq,
                "rows_waiting": self.audit.writer.records_waiting,
                "failing": self.audit.writer.failure is not None,
                "rows_unmoved": self.audit.rows_unmoved,
                "left_alone": "; ".join(self.audit.faults) or None,
            },
            "backends": [
                {
                    "name": backend.name,
                    "priority": backend.priority,
                    "slots": backend.slots,
                    "up": backend.is_up,
                    "paused": backend.is_paused,
                    "in_flight": backend.in_flight,
                    **facts_of(backend, now),
                    "error": backend.error,
                    "failed_polls": backend.failed_polls,
                    "version": backend.listing.version if backend.listing else None,
                    "models": len(backend.listing.models) if backend.listing else 0,
                    "loaded": len(backend.listing.running) if backend.listing else 0,
                }
                for backend in self.backends.all
            ],
        }
        await ask.downstream.respond(200, JSON_HEADERS, json.dumps(status).encode())

    async def models(self, ask: Ask) -> None:
        """Answer `/models.json`: the names of models and aliases, which `gatewayctl` completes."""
        aliases = [alias.name for alias in self.names.aliases.exact.values()]
        found = dict.fromkeys([*names(self.backends.catalog.models.values()), *aliases])
        body = {"models": list(found)}
        await ask.downstream.respond(200, JSON_HEADERS, json.dumps(body).encode())

    async def usage(self, ask: Ask) -> None:
        """Answer `/limits/KEY_ID`: how much of its limits a key has used.

        404 for an unknown key, 503 if a store does not answer.
        """
        try:
            key = await self.find_key(ask.parameter)
        except KeyRefused:
            raise NotFound from None
        if key.id != ask.parameter:  # a name may pass to another key
            raise NotFound
        statuses = await self.limits.statuses(key.id, key.limits)
        body = {
            "key_id": ask.parameter,
            "store": self.limits.store.name,
            "limits": {
                name: {
                    "limit": status.limit,
                    "used": status.used,
                    "left": status.left,
                    "reset_s": round(status.reset, 1),
                }
                for name, status in statuses.items()
            },
        }
        await ask.downstream.respond(200, JSON_HEADERS, json.dumps(body).encode())

    async def explain(self, ask: Ask) -> None:
        """Answer `/explain/MODEL?key=KEY&session=ID`: who would get a request now, and why.

        MODEL may be an alias. KEY is an id or a name; 400 if it is unknown, or if there is none for
        a session. ID is the value of the header in which a client names its conversation.
        """
        name, query = ModelName.parse(unquote(ask.parameter)), parse_qs(ask.query)
        given, session = query.get("key"), query.get("session")
        if session and not given:
            raise BadRequest("a session belongs to a key: name it too")
        try:
            key = await self.find_key(given[0]) if given else None
        except KeyRefused as error:
            raise BadRequest(str(error)) from None
        now = anyio.current_time()
        principal = key.principal() if key else ANYONE
        alias = self.names.alias_of(principal, name)
        allowed = self.names.allowed(principal, name, alias)
        models = allowed or (alias.models if alias is not None else (name,))
        may_use = key is not None and key.is_active(utc_now()) and bool(allowed)
        delay = self.hedging.delay(models[0].key)
        body = {
            "model": models[0].short,
            "alias": alias and {"name": alias.name, "models": [m.short for m in alias.models]},
            "key": key and {"id": key.id, "name": key.name, "may_use": may_use},
            "hedge_after_s": delay if math.isfinite(delay) else None,
            "waiting": len(self.backends.line),
            "advice": ADVICE if key and self.heads.is_advised(key.id) else None,
            **explain_all(models, key.id if key else "", self.backends, now, session),
        }
        await ask.downstream.respond(200, JSON_HEADERS, json.dumps(body).encode())
