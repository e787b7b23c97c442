"""Certificates for backends on this machine."""

from __future__ import annotations

import ssl
from typing import Final

import attrs
import pytest
import trio
import trustme

HOST: Final = "127.0.0.1"


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
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Certificates(server, client)
