"""The admin listener: health, readiness, metrics, status; never on the public address.

`admin_access.py` decides which requests it answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import parse_qs, unquote

import anyio
import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import names
from ollama_gateway.control.status import GatewayStatus
from ollama_gateway.errors import BadRequest, NotFound
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.changing_heads import ADVICE, ChangingHeads
from ollama_gateway.flow.hedging import Hedging
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.keys.key import APIKey, KeyRefused, Principal, utc_now
from ollama_gateway.ledger.audit import AuditServices
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.admin_api.operation import Operation
from ollama_gateway.server.explain import explain_all
from ollama_gateway.server.reload_handlers import JSON_HEADERS, Reloader
from ollama_gateway.server.routes import Routes
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.names import ModelName

ANYONE: Final = Principal("", "", ("*", "*cloud"), frozenset())
"""Stands for a key that may use all models, where none is named."""
METRICS_HEADERS: Final[Headers] = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]


@attrs.define(eq=False)
class Admin:
    """Handlers of the admin listener."""

    state: GatewayStatus
    backends: Backends
    names: Resolver
    metrics: Metrics
    access: AdminAccess
    limits: Limiter
    audit: AuditServices
    hedging: Hedging
    heads: ChangingHeads
    find_key: Callable[[str], Awaitable[APIKey]]
    """Finds a key by its id or name; raises KeyRefused if there is no such key."""
    connections_open: Callable[[], int]
    operations: Sequence[Operation] = ()
    """Of the admin API."""
    reloader: Reloader | None = None
    """None if the settings come from a parent."""

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
        return self.access.routes(handlers, under, self.reloader, self.operations)

    async def health(self, ask: Ask) -> None:
        """Answer `/healthz`: the process is alive."""
        await ask.downstream.respond(200, JSON_HEADERS, b'{"alive":true}')

    async def ready(self, ask: Ask) -> None:
        """Answer `/readyz`: 200, or 503 with the reasons."""
        body = self.state.readiness(named=self.access.may_see_names(ask))
        status = 200 if body["ready"] else 503
        await ask.downstream.respond(status, JSON_HEADERS, json.dumps(body).encode())

    async def figures(self, ask: Ask) -> None:
        """Answer `/metrics`, for Prometheus."""
        self.metrics.connections(self.connections_open())
        self.metrics.settlements(self.limits.store.settlements_waiting)
        self.metrics.backends({b.name: (b.is_up, b.in_flight) for b in self.backends.all})
        self.metrics.audit_rows_waiting(self.audit.writer.records_waiting)
        self.metrics.audit_rows_unmoved(self.audit.rows_unmoved or 0)
        self.metrics.waiting(len(self.backends.line))
        await ask.downstream.respond(200, METRICS_HEADERS, self.metrics.page())

    async def status(self, ask: Ask) -> None:
        """Answer `/status.json`, which `gatewayctl` and dashboards read."""
        status = await in_turns(self.state.document())
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
