"""Management: pull, push, create, copy, delete and blobs, at the one backend that is named.

The whole path of such a request, as `flow/exchange.py` is that of inference. It is never raced and
never tried again; it costs no tokens, and takes no slot: what it loads is a disk and a network.
"""

from __future__ import annotations

from functools import partial

import attrs

from ollama_gateway.backends.backends import Backend, Backends
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.flow.admission import may_call
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.command import Command, read_command
from ollama_gateway.flow.exchange import Keys, Principal
from ollama_gateway.flow.managing import pass_on, told
from ollama_gateway.flow.target import target
from ollama_gateway.ledger.record import AuditRecord, Ledger
from ollama_gateway.limits.leases import Cost, Lease, Limits


@attrs.frozen
class Management:
    """Serves management requests."""

    keys: Keys
    ledger: Ledger
    limits: Limits
    backends: Backends
    discovery: BackendDiscovery
    idle: float
    """Seconds that a backend may be silent."""
    expose_backend: bool = False

    async def serve(self, ask: Ask) -> None:
        """Serve one request to its end; raises GatewayError, before or after the first byte."""
        principal = await self.keys.identify(ask.credential)  # 401, before a byte of the body
        async with self.ledger.record(principal, ask) as record:  # exactly one row
            may_call(principal, ask)  # 403, 415
            backend = target(principal, ask, self.backends)  # 400
            quota = self.limits.quota_of(principal.limits, ask.endpoint.group)
            with self.limits.lease(quota, record) as lease:  # holds nothing yet
                command = await self._command(principal, ask, lease)  # 429, 400, 403, 408, 413
                record.model = command.model.short if command.model else None
                record.bytes_in = len(command.body or b"")
                await self.limits.admit(lease, Cost())  # 429, 503
                await self.ledger.admit(record)  # 503
                async with told(backend, command, ask, record, self.idle) as reply:  # 502, 503, 504
                    finish = partial(self._finish, backend, command, lease, record)
                    exposed = [(b"x-gateway-backend", backend.name.encode())]
                    extra = lease.headers + exposed * self.expose_backend
                    await pass_on(reply, ask, record, finish, self.idle, extra)

    async def _command(self, principal: Principal, ask: Ask, lease: Lease) -> Command:
        """Read the body; where it is large or still to come, only once it has its places."""
        is_slow = not await ask.downstream.is_at_hand()
        if is_slow:
            await self.limits.enter(lease)  # 429, 503
        command = await read_command(principal, ask)
        if is_slow:
            await self.keys.identify(ask.credential)  # 401, where the key was revoked meanwhile
        return command

    async def _finish(
        self, backend: Backend, command: Command, lease: Lease, record: AuditRecord
    ) -> None:
        """The whole answer is there: the lists show what it has changed, and it is recorded; 503.

        Where the backend does not answer in time, its lists are as old as at any failed poll.
        """
        if command.changes_models and record.outcome == "completed":
            await self.discovery.refresh(backend)
        if command.is_deletion and record.outcome == "completed" and command.model is not None:
            self.backends.forget(command.model)
        self.limits.settle(lease)
        await self.ledger.finalize(record)
