"""From settings to backends, each with its transport: for the gateway, and for commands."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import httpx

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.connecting import tcp
from ollama_gateway.backends.transport import MAX_IDLE, Transport
from ollama_gateway.certificates import RenewedContext, TLSFilesBroken, client_context
from ollama_gateway.settings.model import BackendSettings, Settings

if TYPE_CHECKING:
    from ollama_gateway.metrics import Metrics

Transports = Mapping[str, Transport]
"""By the name of a backend."""


def build_backends(
    settings: Settings,
    transports: Transports | None = None,
    metrics: Metrics | None = None,
    *,
    most_idle: int = 0,
) -> Backends:
    """Build the backends of the settings; raises TLSFilesBroken.

    Args:
        settings: valid settings.
        transports: replace TCP; for tests.
        metrics: of the process; None where no page shows them.
        most_idle: connections that each backend keeps between requests. If it is not 0, the caller
            closes the backends.

    """
    given, timeout = transports or {}, settings.race.connect_timeout
    backends = [
        _backend(backend, given.get(backend.name) or _transport(backend, timeout, most_idle))
        for backend in settings.backends
    ]
    return Backends.of(backends, metrics, settings.aliases.hidden)


def rebuild_backends(
    running: Backends, old: Settings, new: Settings, transports: Transports | None = None
) -> list[Backend]:
    """Build the backends of new settings beside those that run; raises TLSFilesBroken.

    A backend that is reached as before keeps its transport.
    """
    given, timeout = transports or {}, new.race.connect_timeout
    known = {backend.name: backend for backend in running.all}
    before = {backend.name: _way(backend, old.race.connect_timeout) for backend in old.backends}
    backends = []
    for backend in new.backends:
        if before.get(backend.name) == _way(backend, timeout):
            transport = known[backend.name].transport
        else:
            transport = given.get(backend.name) or _transport(backend, timeout, MAX_IDLE)
        backends.append(_backend(backend, transport))
    return backends


def _way(backend: BackendSettings, connect_timeout: float) -> tuple[object, ...]:
    """Return all that a transport depends on."""
    files = backend.ca_file, backend.client_cert, backend.client_key
    return backend.url, connect_timeout, backend.verify, files


def _backend(backend: BackendSettings, transport: Transport) -> Backend:
    return Backend(
        name=backend.name,
        url=httpx.URL(backend.url),
        transport=transport,
        headers=_headers(backend),
        priority=backend.priority,
        patterns=backend.models,
        slots=backend.slots,
    )


def _headers(backend: BackendSettings) -> dict[str, str]:
    headers = {name.lower(): value.reveal() for name, value in backend.headers.items()}
    if backend.auth_token is not None:
        headers["authorization"] = f"Bearer {backend.auth_token.reveal()}"
    return headers


def _transport(backend: BackendSettings, connect_timeout: float, most_idle: int) -> Transport:
    url = httpx.URL(backend.url)
    secure = url.scheme == "https"
    context = _renewed_context(backend).context if secure else None
    port = url.port or (443 if secure else 80)
    connect = tcp(url.host, port, connect_timeout=connect_timeout, ssl_context=context)
    return Transport(connect, most_idle=most_idle, name=backend.name)


def _renewed_context(backend: BackendSettings) -> RenewedContext:
    files = backend.ca_file, backend.client_cert, backend.client_key
    make = partial(client_context, *files, verify=backend.verify)
    try:
        return RenewedContext([file for file in files if file], make, backend.name)
    except TLSFilesBroken as error:
        raise TLSFilesBroken(f"backend {backend.name}: {error}") from error
