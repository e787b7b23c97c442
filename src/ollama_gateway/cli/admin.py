"""Ask the running gateway, at its admin listener, which answers with a JSON object.

The server that answers need not be a gateway. Whatever it sends, within the given seconds there is
an `AdminAnswer` or `NoAnswer`, and a body of more than `MAX_ANSWER_BYTES` is no answer. Each
command checks the content of the object itself.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

import attrs

from ollama_gateway.cli.reaching import address_of
from ollama_gateway.settings import ServerSettings

ANSWER_SECONDS: Final = 5.0
"""Time for the admin listener to answer by default, from the connect to the last byte."""
MAX_ANSWER_BYTES: Final = 2**20
"""The largest body of an answer."""


class NoAnswer(Exception):
    """Nothing answers at the address, or the answer is not one of a gateway."""


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
    document: object = None,
) -> AdminAnswer:
    """Ask the gateway of these settings; `path` must already be quoted.

    A document is sent as JSON.

    Raises:
        NoAnswer: no HTTP response with a JSON object came in time.

    """
    try:
        status, body = _exchange(server, method, path, seconds, document)
        value = json.loads(body)
    except (OSError, HTTPException, ValueError, RecursionError):
        raise NoAnswer from None
    if len(body) > MAX_ANSWER_BYTES or not isinstance(value, dict):
        raise NoAnswer
    return AdminAnswer(status, value)


def _exchange(
    server: ServerSettings, method: str, path: str, seconds: float, document: object
) -> tuple[int, bytes]:
    deadline = time.monotonic() + seconds
    host, port = address_of(server.admin_bind)
    connection = HTTPConnection(host, port, timeout=seconds)
    with closing(connection):
        connection.connect()
        connection.sock = _TimedSocket(connection.sock.detach(), deadline)
        if document is None:
            connection.request(method, path, headers=_headers(server))
        else:
            headers = {**_headers(server), "content-type": "application/json"}
            connection.request(method, path, json.dumps(document), headers)
        with connection.getresponse() as response:
            return response.status, response.read(MAX_ANSWER_BYTES + 1)


class _TimedSocket(socket.socket):
    """A socket whose operations all end at one deadline, however slowly its peer sends."""

    def __init__(self, fileno: int, deadline: float) -> None:
        super().__init__(fileno=fileno)
        self._deadline = deadline

    def sendall(self, *given: Any) -> None:
        self._use_time_left()
        super().sendall(*given)

    def recv_into(self, *given: Any) -> int:
        self._use_time_left()
        return super().recv_into(*given)

    def _use_time_left(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)


def _headers(server: ServerSettings) -> dict[str, str]:
    token = server.admin_token
    given = {"authorization": f"Bearer {token.reveal()}"} if token else {}
    return {"connection": "close", **given}
