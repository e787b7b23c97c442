"""Sockets whose operations all end at one deadline, however slowly their peer sends."""

from __future__ import annotations

import socket
import ssl
import time
from threading import Thread
from typing import Any, Final

import attrs

from ollama_gateway.cli.remote.address import AdminAddress

Place = tuple[Any, ...]
"""What `socket.getaddrinfo` returns for one address."""

LOOK_UP_FAILED: Final = "its name is not known here"


class Unreachable(OSError):
    """No connection can be made; the message says why in half a sentence."""


@attrs.define
class SocketDeadline:
    """A time of `time.monotonic` that may be put off."""

    when: float

    @classmethod
    def in_(cls, seconds: float) -> SocketDeadline:
        """Return the one after so many seconds from now."""
        return cls(time.monotonic() + seconds)

    def postpone(self, seconds: float) -> None:
        """Put it off until so many seconds from now."""
        self.when = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; raises TimeoutError if there are none."""
        seconds = self.when - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class TimedSocket(socket.socket):
    """A plain one."""

    deadline: SocketDeadline

    def sendall(self, *given: Any) -> None:
        """Do it in the time that is left."""
        self.settimeout(self.deadline.left())
        super().sendall(*given)

    def recv_into(self, *given: Any) -> int:
        """Do it in the time that is left."""
        self.settimeout(self.deadline.left())
        return super().recv_into(*given)


class TimedTLSSocket(ssl.SSLSocket):
    """One with TLS; its `sendall` calls `send`."""

    deadline: SocketDeadline

    def send(self, *given: Any) -> int:
        """Do it in the time that is left."""
        self.settimeout(self.deadline.left())
        return super().send(*given)

    def recv_into(self, *given: Any) -> int:
        """Do it in the time that is left."""
        self.settimeout(self.deadline.left())
        return super().recv_into(*given)


def connected(address: AdminAddress, deadline: SocketDeadline) -> TimedSocket | TimedTLSSocket:
    """Connect, with TLS if the address has it; raises OSError, Unreachable among them."""
    context = _tls_context(address) if address.is_tls else None
    raw = _connected(address, deadline)
    if context is None:
        plain = TimedSocket(raw.family, raw.type, raw.proto, raw.detach())
        plain.deadline = deadline
        return plain
    try:
        raw.settimeout(deadline.left())  # OpenSSL's handshake ends after it as a whole
        secured = context.wrap_socket(raw, server_hostname=address.host)
    except ssl.SSLError as error:
        raise Unreachable(_tls_words(error, address)) from None
    finally:
        raw.close()  # its descriptor has passed to the other, if that was made
    assert isinstance(secured, TimedTLSSocket)  # noqa: S101 - the context makes no others
    secured.deadline = deadline
    return secured


def _tls_words(error: ssl.SSLError, address: AdminAddress) -> str:
    from ollama_gateway.tls_faults import tls_fault  # noqa: PLC0415 - seldom

    fault = tls_fault(error) or "it does not speak TLS as it should"
    is_unknown = isinstance(error, ssl.SSLCertVerificationError) and "not trusted" in fault
    hint = " (--ca-file names its authority)" if is_unknown and not address.ca_file else ""
    return f"{fault}{hint}"


def _tls_context(address: AdminAddress) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
    except OSError as error:  # also what OpenSSL says of a file without certificates
        is_tls = isinstance(error, ssl.SSLError)
        why = "holds no certificate" if is_tls else (error.strerror or "cannot be read").lower()
        raise Unreachable(f"{address.ca_file}: {why}") from None
    context.sslsocket_class = TimedTLSSocket
    return context


def _connected(address: AdminAddress, deadline: SocketDeadline) -> socket.socket:
    """Try all addresses of the host, each with its share of the time that is left."""
    places = _places(address, deadline)
    failure: OSError = Unreachable(LOOK_UP_FAILED)
    for tried, (family, kind, protocol, _, place) in enumerate(places):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left() / (len(places) - tried))
            sock.connect(place)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _places(address: AdminAddress, deadline: SocketDeadline) -> list[Place]:
    """Look the host up. The system's resolver knows no deadline, so a thread waits for it."""
    found: list[Place] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
        except (OSError, ValueError):
            return

    try:
        return list(
            socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        )
    except socket.gaierror:
        pass
    thread = Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(deadline.left())
    if not found:
        raise Unreachable(LOOK_UP_FAILED)
    return found
