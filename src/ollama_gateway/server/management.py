"""Management: pull, push, create, copy, delete and blobs, at the one backend that is named.

This is the whole path of such a request, as `flow/exchange.py` is for inference. A management
request is never raced and never retried; it costs no tokens and takes no slot, since it loads a
disk and a network, not a GPU.
"""

from __future__ import annotations

from functools import partial

import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.flow.admission import may_call
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.command import Command, read_command
from ollama_gateway.flow.managing import relay_reply, send_command
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.flow.target import target
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import Principal
from ollama_gateway.ledger.record import AuditRecord, Ledger
from ollama_gateway.limits.leases import Cost, Lease, Limiter


@attrs.frozen
class Management:
    """Serves management requests."""

    keys: KeyCache
    ledger: Ledger
    limits: Limiter
    backends: Backends
    names: Resolver
    discovery: BackendDiscovery
    idle: float
    """Seconds that a backend may be silent."""
    expose_backend: bool = False

    async def serve(self, ask: Ask) -> None:
        """Serve one request to its end; raises GatewayError, before or after the first byte."""
        principal = await self.keys.identify(ask.credential)  # 401, before a byte of the body
        async with self.ledger.record(principal, ask) as record:  # exactly one audit record
            may_call(principal, ask)  # 403, 415
            backend = target(principal, ask, self.backends)  # 400
            quota = self.limits.quota_of(principal.limits, spends_tokens=False)
            with self.limits.lease(quota, record) as lease:  # holds nothing yet
                command = await self._command(principal, ask, lease)  # 429, 400, 403, 408, 413
                record.model = command.model.short if command.model else None
                record.bytes_in = len(command.body or b"")
                await self.limits.admit(lease, Cost())  # 429, 503
                await self.ledger.admit(record)  # 503
                sending = send_command(backend, command, ask, record, self.idle)
                async with sending as reply:  # 502, 503, 504
                    finish = partial(self._finish, backend, command, lease, record)
                    exposed = [(b"x-gateway-backend", backend.name.encode())]
                    extra = lease.headers + exposed * self.expose_backend
                    await relay_reply(reply, ask, record, finish, self.idle, extra)

    async def _command(self, principal: Principal, ask: Ask, lease: Lease) -> Command:
        """Read the body; a large or late one only once the request holds its places."""
        is_slow = not await ask.downstream.is_at_hand()
        if is_slow:
            await self.limits.enter(lease)  # 429, 503
        command = await read_command(principal, ask, self.names)
        if is_slow:
            await self.keys.identify(ask.credential)  # 401, if the key was revoked meanwhile
        return command

    async def _finish(
        self, backend: Backend, command: Command, lease: Lease, record: AuditRecord
    ) -> None:
        """Update the lists and finalize the record once the whole answer is there; raises 503.

        If the backend does not answer in time, its lists stay as old as after any failed poll.
        """
        if command.changes_models and record.outcome == "completed":
            await self.discovery.refresh(backend)
        self.limits.settle(lease)
        await self.ledger.finalize(record)
