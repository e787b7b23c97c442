"""Certificates for backends on this machine."""

from __future__ import annotations

import ssl

import attrs
import pytest
import trio
import trustme

from tests.support.certificates import client_context, server_context


@attrs.frozen
class Certificates:
    """The TLS contexts of a server and of a client that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext

    def wrap(self, stream: trio.SocketStream) -> trio.SSLStream[trio.SocketStream]:
        """Speak TLS on an accepted connection; closing it sends close_notify."""
        return trio.SSLStream(stream, self.server, server_side=True)


@pytest.fixture(scope="package")
def certificates() -> Certificates:
    """Make an authority and a certificate for 127.0.0.1."""
    authority = trustme.CA()
    return Certificates(server_context(authority), client_context(authority))
