"""A listener on a real socket, and the certificate of those that use TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from ollama_gateway.http.app_tasks import ASGIApp
from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import Peer, gateway, serving
from tests.http.tls_serving import TLSPeer, serving_tls
from tests.support.certificates import ServerFiles

Serve = Callable[[ASGIApp, ConnectionLimits], AbstractAsyncContextManager[Peer | TLSPeer]]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A listener with the gateway's own application."""
    async with serving(gateway()) as opened:
        yield opened


@pytest.fixture(scope="session")
def server_files(tmp_path_factory: pytest.TempPathFactory) -> ServerFiles:
    """A certificate that no test replaces."""
    return ServerFiles.into(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["plain", "tls"])
def serve(request: pytest.FixtureRequest, server_files: ServerFiles) -> Serve:
    """Run a listener without TLS, then one with it."""
    if request.param == "plain":
        return serving
    return lambda app, limits: serving_tls(app, server_files, limits)
