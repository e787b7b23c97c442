"""Ask the running gateway, at its admin listener, which answers with a JSON object.

The server that answers need not be a gateway. Whatever it sends, within the given seconds there is
an `AdminAnswer` or `NoAnswer`, and a body of more than `MAX_ANSWER_BYTES` is no answer. Each
command checks the content of the object itself.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, cast

import attrs

from ollama_gateway.cli.reaching import address_of
from ollama_gateway.printable import printable
from ollama_gateway.settings import ServerSettings, Settings

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
ANSWER_SECONDS: Final = 5.0
"""Time for the admin listener to answer by default, from the connect to the last byte."""
MAX_ANSWER_BYTES: Final = 2**20
"""The largest body of an answer."""


class NoAnswer(Exception):
    """Nothing answers at the address, or the answer is not one of a gateway."""


class TokenFileRefused(Exception):
    """The file of the local token is not as the gateway makes it; one line for the operator."""


@attrs.frozen
class AdminAnswer:
    """An answer of the admin listener."""

    status: int
    """The HTTP status."""
    value: dict[str, Any]
    """The JSON object, unchecked."""


def ask(
    server: ServerSettings,
    path: str,
    *,
    method: str = "GET",
    seconds: float = ANSWER_SECONDS,
    token: str | None = None,
    document: object = None,
) -> AdminAnswer:
    """Ask the gateway of these settings.

    Args:
        server: its settings.
        path: already quoted.
        method: the method.
        seconds: the time for the whole answer.
        token: the admin token; by default that of the settings, if they have one.

    A document is sent as JSON.

    Raises:
        NoAnswer: no HTTP response with a JSON object came in time.

    """
    if token is None and server.admin_token is not None:
        token = server.admin_token.reveal()
    try:
        status, body = _exchange(server, method, path, seconds, token, document)
        value = json.loads(body)
    except (OSError, HTTPException, ValueError, RecursionError):
        raise NoAnswer from None
    if len(body) > MAX_ANSWER_BYTES or not isinstance(value, dict):
        raise NoAnswer
    return AdminAnswer(status, value)


def order(
    settings: Settings,
    path: str,
    *,
    method: str = "POST",
    seconds: float = ANSWER_SECONDS,
    document: object = None,
) -> AdminAnswer:
    """Ask the gateway of these settings to change something, with the local token if there is one.

    Without it, or if the gateway has another data directory, with the token of the settings.

    Raises:
        NoAnswer: no HTTP response with a JSON object came in time.
        TokenFileRefused: the file of the local token may have been read or written by others.

    """
    local = local_token(settings.storage.data_dir)
    given: Any = {"method": method, "seconds": seconds, "document": document}
    answer = ask(settings.server, path, token=local, **given)
    if local is None or answer.status != HTTPStatus.UNAUTHORIZED:
        return answer
    return ask(settings.server, path, **given)


def local_token(data_dir: Path) -> str | None:
    """Return the local token; None if there is none, or none that this user may read.

    Raises TokenFileRefused.
    """
    from ollama_gateway.storage.data_files import LOCAL_TOKEN_FILE  # noqa: PLC0415 - for changes
    from ollama_gateway.storage.private_text import NotPrivate, read_private  # noqa: PLC0415

    path = data_dir / LOCAL_TOKEN_FILE
    try:
        owners = {os.geteuid()}
        if 0 in owners:  # root acts for the owner of the directory
            owners.add(data_dir.stat().st_uid)
        return read_private(path, owners) or None
    except NotPrivate as error:
        raise TokenFileRefused(f"{printable(str(path))}: {error}: remove it") from None
    except OSError:
        return None


def _exchange(
    server: ServerSettings,
    method: str,
    path: str,
    seconds: float,
    token: str | None,
    document: object,
) -> tuple[int, bytes]:
    deadline = time.monotonic() + seconds
    host, port = address_of(server.admin_bind)
    connection = HTTPConnection(host, port, timeout=seconds)
    with closing(connection):
        connection.connect()
        if server.admin_tls_cert is not None:
            connection.sock = _encrypted(connection.sock, server.admin_tls_cert, deadline)
        else:
            connection.sock = _TimedSocket(connection.sock.detach(), deadline)
        if document is None:
            connection.request(method, path, headers=_headers(token))
        else:
            headers = {**_headers(token), "content-type": "application/json"}
            connection.request(method, path, json.dumps(document), headers)
        with connection.getresponse() as response:
            return response.status, response.read(MAX_ANSWER_BYTES + 1)


def _encrypted(plain: socket.socket, cert: Path, deadline: float) -> _TimedTLSSocket:
    """Speak TLS with the one that has the very certificate of the file, and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = _TimedTLSSocket
    encrypted = cast("_TimedTLSSocket", context.wrap_socket(plain))
    encrypted.deadline = deadline
    chain = cert.read_text(encoding="latin-1")
    [first, *_] = [f"{part}{_END}" for part in chain.split(_END)[:-1]] or [""]
    expected = ssl.PEM_cert_to_DER_cert(first[first.find(_BEGIN) :])
    if encrypted.getpeercert(binary_form=True) != expected:
        encrypted.close()
        raise NoAnswer
    return encrypted


class _Timed:
    """A socket whose operations all end at one deadline, however slowly its peer sends."""

    deadline: float

    def sendall(self, *given: Any) -> None:
        self._use_time_left()
        super().sendall(*given)  # type: ignore[misc]

    def recv_into(self, *given: Any) -> int:
        self._use_time_left()
        return super().recv_into(*given)  # type: ignore[misc,no-any-return]

    def _use_time_left(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)  # type: ignore[attr-defined]


class _TimedSocket(_Timed, socket.socket):
    """A plain one."""

    def __init__(self, fileno: int, deadline: float) -> None:
        super().__init__(fileno=fileno)
        self.deadline = deadline


class _TimedTLSSocket(_Timed, ssl.SSLSocket):
    """One that is encrypted; its handshake has the timeout of the connection."""


def _headers(token: str | None) -> dict[str, str]:
    given = {"authorization": f"Bearer {token}"} if token else {}
    return {"connection": "close", **given}
