"""From settings to listeners: the public one for clients, and the admin one for operators."""

from __future__ import annotations

from typing import Final

from ollama_gateway.certificates import RenewedContext
from ollama_gateway.http.connection_counts import ConnectionCounts
from ollama_gateway.http.listener import Listener
from ollama_gateway.http.open_files import connections_that_fit
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.admin_checks import AdminChecks
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.routes import Routes
from ollama_gateway.settings import model

ADMIN_CONNECTIONS: Final = 64
ADMIN_BODIES: Final = 1024 * 1024
"""Bytes of all bodies that the admin listener holds together."""
ADMIN_CAPS: Final = ("none; the admin listener has 64", "none; 16 of the admin listener's 64")
"""Logged in place of the settings that bound a public listener's connections."""


def public_listener(
    server: model.ServerSettings,
    app: App,
    certificate: RenewedContext | None,
    connections: ConnectionCounts,
) -> Listener:
    """Build the clients' listener."""
    return Listener(
        app=app,
        render_early_error=app.render_early_error,
        max_connections=connections_that_fit(server.max_connections),
        certificate=certificate,
        is_shared=server.processes > 1,
        connection_counts=connections,
    )


def admin_listener(
    routes: Routes, metrics: Metrics, certificate: RenewedContext | None = None
) -> tuple[App, Listener]:
    """Build an operators' listener for these routes, and its app."""
    app = App(AppConfig(routes), BodyBudget(limit=ADMIN_BODIES, total=ADMIN_BODIES), metrics)
    listener = Listener(
        app=app,
        render_early_error=app.render_early_error,
        max_connections=ADMIN_CONNECTIONS,
        certificate=certificate,
        settings=ADMIN_CAPS,
    )
    return app, listener


def admin_access(server: model.ServerSettings, checks: AdminChecks | None) -> AdminAccess:
    """Build the check of the admin listener: its tokens, and the names by which it may be asked.

    `checks` is None in a process that only its parent can ask.
    """
    token, hosts = server.admin_token, (server.admin_bind.host, *server.admin_hosts)
    return AdminAccess.of(
        token.reveal() if token else None,
        hosts,
        checks,
        is_on_loopback=server.admin_bind.is_loopback or checks is None,
    )


def connection_counts(server: model.ServerSettings) -> ConnectionCounts:
    """Build the counts of the clients' listener: how many connections an address may have."""
    usual = ConnectionCounts.of(connections_that_fit(server.max_connections))
    most = server.max_connections_per_address or usual.limit
    return ConnectionCounts(most, exempt=(*usual.exempt, *server.trusted_proxies))


def certificate_of(server: model.ServerSettings) -> RenewedContext | None:
    """Read the certificate of the clients' listener, if it has one; raises TLSFilesBroken."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    return RenewedContext.of_listener(server.tls_cert, server.tls_key)


def admin_certificate_of(server: model.ServerSettings) -> RenewedContext | None:
    """Read the certificate of the admin listener, if it has one; raises TLSFilesBroken."""
    if server.admin_tls_cert is None or server.admin_tls_key is None:
        return None
    return RenewedContext.of_listener(server.admin_tls_cert, server.admin_tls_key)
