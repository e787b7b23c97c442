"""Throwaway certificates: authorities, the files that they issue, and TLS on both sides."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import attrs
import trustme

HOST: Final = "127.0.0.1"


def write_certificate(authority: trustme.CA, cert: Path, key: Path, name: str = HOST) -> None:
    """Issue a certificate and write it and its key, each as a new file."""
    made = authority.issue_cert(name)
    key.unlink(missing_ok=True)  # the gateway must see a new file, however coarse its times are
    made.private_key_pem.write_to_path(key)
    made.cert_chain_pems[0].write_to_path(cert)


def server_context(authority: trustme.CA, *, is_mutual: bool = False) -> ssl.SSLContext:
    """Return the context of a server on `HOST`; if mutual, clients need the authority's too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    if is_mutual:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@attrs.frozen
class ServerFiles:
    """A server's certificate and key as files, and a client that trusts their authority."""

    authority: trustme.CA
    cert: Path
    key: Path
    client: ssl.SSLContext

    @classmethod
    def into(cls, directory: Path) -> ServerFiles:
        """Make an authority, and write its first certificate into a directory."""
        directory.mkdir(exist_ok=True)
        authority = trustme.CA()
        client = client_context(authority)
        client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # or a cut would look like a close_notify
        files = cls(authority, directory / "cert.pem", directory / "key.pem", client)
        files.issue()
        return files

    def issue(self, name: str = HOST) -> None:
        """Replace the certificate and its key by new ones."""
        write_certificate(self.authority, self.cert, self.key, name)
