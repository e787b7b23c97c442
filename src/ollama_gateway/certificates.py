"""TLS contexts from certificate and key files, with error texts for operators.

OpenSSL's texts are for programmers, so they are replaced. A key with a passphrase is refused: a
service cannot ask for it.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.log import get_logger

ALPN: Final = ["http/1.1"]
NO_AUTHORITIES: Final = "certificates are needed, in PEM"
MISMATCH: Final = "the key does not belong to the certificate"
UNUSABLE: Final = "a certificate and its key are needed, in PEM, the key without a passphrase"

Stamp = tuple[int, int, int]
"""Changes with a file: its inode, its modification time, its size."""

log = get_logger("tls")


class TLSFilesBroken(Exception):
    """Files cannot be used; the text contains neither their names nor their content."""


def load_pair(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Load a certificate chain and its key; raises TLSFilesBroken."""
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")  # or OpenSSL asks the terminal
    except ssl.SSLError as error:
        is_mismatch = error.reason == "KEY_VALUES_MISMATCH"
        raise TLSFilesBroken(MISMATCH if is_mismatch else UNUSABLE) from error
    except OSError as error:
        raise TLSFilesBroken(error.strerror or "cannot be read") from error


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise TLSFilesBroken(NO_AUTHORITIES) from error
    except OSError as error:
        raise TLSFilesBroken(error.strerror or "cannot be read") from error


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Make a listener's context: TLS 1.2 or later, HTTP/1.1 only; raises TLSFilesBroken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN)
    load_pair(context, cert, key)
    return context


def client_context(
    ca_file: Path | None, cert: Path | None, key: Path | None, *, verify: bool
) -> ssl.SSLContext:
    """Make the context for connections to a backend; raises TLSFilesBroken.

    Args:
        ca_file: trusted authorities, in place of the system's.
        cert: the client certificate shown to the backend; its key is in the same file or in `key`.
        key: the key of `cert`.
        verify: whether to check the backend's certificate.

    """
    context = _trusting(ca_file)
    if cert is not None:
        load_pair(context, cert, key)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@attrs.define(eq=False)
class RenewedContext:
    """A TLS context that is made again when its files change.

    Each connection costs a call of stat for each file; there is no watcher and no signal. If new
    files cannot be used, the old context stays in force. They are tried once, and again when they
    change again, as in a renewal that writes one file after the other.
    """

    files: Sequence[Path]
    make: Callable[[], ssl.SSLContext] = attrs.field(repr=False)
    """Reads the files; raises TLSFilesBroken."""
    backend: str | None = None
    """The backend for whose connections it is; None for the gateway's own listener."""
    _context: ssl.SSLContext = attrs.field(init=False, repr=False)
    _stamp: tuple[Stamp | None, ...] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._stamp = self._stamped()
        self._context = self.make()

    @classmethod
    def of_listener(cls, cert: Path, key: Path) -> RenewedContext:
        """Make the context of a listener; raises TLSFilesBroken."""
        return cls((cert, key), partial(server_context, cert, key))

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for the next connection."""
        stamp = self._stamped()
        if stamp != self._stamp:
            self._stamp = stamp
            if None in stamp:
                self._say_not_used("a file is missing")
            else:
                self._renew()
        return self._context

    def _renew(self) -> None:
        try:
            self._context = self.make()
        except TLSFilesBroken as error:
            self._say_not_used(str(error))
        else:
            log.info("certificate renewed", **self._owner())

    def _say_not_used(self, reason: str) -> None:
        log.warning("new certificate not used", reason=reason, **self._owner())

    def _owner(self) -> dict[str, str]:
        return {} if self.backend is None else {"backend": self.backend}

    def _stamped(self) -> tuple[Stamp | None, ...]:
        return tuple(map(stamp_of, self.files))


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes with a file; None if there is none, or not one to read."""
    try:
        found = path.stat()
    except OSError:
        return None
    # Opening a pipe would wait for a writer.
    return (found.st_ino, found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None
