"""Ask a gateway at its admin listener, on this machine or another; it answers with a JSON object.

The server that answers need not be a gateway. Whatever it sends, within the given seconds there is
an `AdminAnswer` or `NoAnswer`, and a body that is too large is no answer. Each
command checks the content of the object itself. A redirect is never followed, as it would take the
token elsewhere, and the proxies that the environment names are not used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Final

import attrs

from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.timed_socket import SocketDeadline, Unreachable, connected
from ollama_gateway.printable import printable

ANSWER_SECONDS: Final = 5.0
"""Time for the admin listener to answer by default, from the connect to the last byte."""
LINE_SECONDS: Final = 60.0
"""Time between two lines of an answer that comes in lines."""
MAX_ANSWER_BYTES: Final = 2**20
"""The largest body of an answer, unless the caller says otherwise."""
MAX_LINE_BYTES: Final = 2**20


MAX_SAID: Final = 1000
"""Characters of a refusal that are shown."""
REFUSALS: Final = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.TOO_MANY_REQUESTS,
}


class NoAnswer(Exception):
    """Nothing answers at the address, or the answer is not one of a gateway.

    The message says why, in half a printable sentence, where that helps; else it is empty.
    """


class Refused(NoAnswer):
    """A gateway answers, but not this token, or not by this name; the message is its own line."""


@attrs.frozen
class AdminAnswer:
    """An answer of the admin listener."""

    status: int
    """The HTTP status."""
    value: dict[str, Any]
    """The JSON object, unchecked; empty for an answer without content (204)."""
    etag: str | None = None
    """As sent, with its quotes."""


def unanswered(address: AdminAddress, error: NoAnswer) -> str:
    """Return the line for an address where no gateway answers, or one that refuses."""
    if isinstance(error, Refused):
        return f"the gateway on {address.shown} refuses: {error}"
    return f"no gateway answers on {address.shown}{f': {error}' if str(error) else ''}"


def unexpected(answer: AdminAnswer) -> NoAnswer:
    """Return the error for an answer with another status than the wanted one."""
    said = answer.value.get("detail", answer.value.get("error"))
    if answer.status in REFUSALS and isinstance(said, str):
        return Refused(printable(said[:MAX_SAID]))
    return NoAnswer()


def ask(
    address: AdminAddress,
    path: str,
    *,
    method: str = "GET",
    document: object = None,
    etag: str | None = None,
    seconds: float = ANSWER_SECONDS,
    most: int = MAX_ANSWER_BYTES,
) -> AdminAnswer:
    """Ask the gateway at this address.

    Args:
        address: where it is asked.
        path: already quoted, with the query if any.
        method: the HTTP method.
        document: the body; None for none.
        etag: the ETag that the thing must have; None for any.
        seconds: the time for all of it.
        most: the bytes that the body of the answer may have.

    Raises:
        NoAnswer: no HTTP response with a JSON object came in time.

    """
    body = None if document is None else json.dumps(document).encode()
    with _answered(address, method, path, body, etag, SocketDeadline.in_(seconds)) as response:
        if response.status == HTTPStatus.NO_CONTENT:
            return AdminAnswer(response.status, {})
        content = response.read(most + 1)
        if len(content) > most:
            raise NoAnswer("its answer is too large")
        return AdminAnswer(response.status, _object(content), response.headers.get("etag"))


def ask_lines(
    address: AdminAddress,
    path: str,
    *,
    method: str = "GET",
    document: object = None,
    seconds: float = LINE_SECONDS,
) -> Iterator[AdminAnswer]:
    """Ask for an answer that comes in lines; yield each as it comes, with the status of all.

    An answer other than 200 is one object. `seconds` are the time until the first line, and between
    two lines; all else is as for `ask`.
    """
    body = None if document is None else json.dumps(document).encode()
    deadline = SocketDeadline.in_(seconds)
    with _answered(address, method, path, body, None, deadline) as response:
        if response.status != HTTPStatus.OK:
            yield AdminAnswer(response.status, _object(response.read(MAX_LINE_BYTES + 1)))
            return
        while line := response.readline(MAX_LINE_BYTES + 1):
            if not line.endswith(b"\n"):
                raise NoAnswer("its answer broke off" if len(line) <= MAX_LINE_BYTES else "")
            yield AdminAnswer(response.status, _object(line))
            deadline.postpone(seconds)


def _object(content: bytes) -> dict[str, Any]:
    value = json.loads(content)
    if not isinstance(value, dict):
        raise NoAnswer
    return value


@contextmanager
def _answered(
    address: AdminAddress,
    method: str,
    path: str,
    body: bytes | None,
    etag: str | None,
    deadline: SocketDeadline,
) -> Iterator[HTTPResponse]:
    """Send a request and yield the response; whatever goes wrong in the block is NoAnswer."""
    headers = {"connection": "close"}
    if address.token is not None:
        headers["authorization"] = f"Bearer {address.token}"
    if body is not None:
        headers["content-type"] = "application/json"
    if etag is not None:
        headers["if-match"] = etag
    try:
        with closing(HTTPConnection(address.host, address.port)) as connection:
            connection.sock = connected(address, deadline)
            connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                yield response
    except Unreachable as error:
        raise NoAnswer(printable(str(error))) from None
    except (OSError, HTTPException, ValueError, RecursionError):
        raise NoAnswer from None
