"""From settings to backends, each with its transport: for the gateway, and for commands."""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLContext

import httpx

from ollama_gateway.backends.affinity import Affinity
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.connecting import tcp
from ollama_gateway.backends.transport import Transport
from ollama_gateway.certificates import TLSFilesBroken, client_context
from ollama_gateway.metrics import Metrics
from ollama_gateway.settings.model import BackendSettings, Settings

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
        metrics: of the process; by default new ones, which no page shows.
        most_idle: connections that each backend keeps between requests. If it is not 0, the caller
            closes the backends.

    """
    given, timeout = transports or {}, settings.race.connect_timeout
    backends = [
        Backend(
            name=backend.name,
            url=httpx.URL(backend.url),
            transport=given.get(backend.name) or _transport(backend, timeout, most_idle),
            headers=_headers(backend),
            priority=backend.priority,
            patterns=backend.models,
            slots=backend.slots,
        )
        for backend in settings.backends
    ]
    affinity = settings.affinity
    return Backends.of(
        backends, metrics, Affinity(affinity.idle, affinity.capacity) if affinity.enabled else None
    )


def _headers(backend: BackendSettings) -> dict[str, str]:
    headers = {name.lower(): value.reveal() for name, value in backend.headers.items()}
    if backend.auth_token is not None:
        headers["authorization"] = f"Bearer {backend.auth_token.reveal()}"
    return headers


def _transport(backend: BackendSettings, connect_timeout: float, most_idle: int) -> Transport:
    url = httpx.URL(backend.url)
    secure = url.scheme == "https"
    context = _ssl_context(backend) if secure else None
    port = url.port or (443 if secure else 80)
    connect = tcp(url.host, port, connect_timeout=connect_timeout, ssl_context=context)
    return Transport(connect, most_idle=most_idle, name=backend.name)


def _ssl_context(backend: BackendSettings) -> SSLContext:
    try:
        return client_context(
            backend.ca_file, backend.client_cert, backend.client_key, verify=backend.verify
        )
    except TLSFilesBroken as error:
        raise TLSFilesBroken(f"backend {backend.name}: {error}") from error
