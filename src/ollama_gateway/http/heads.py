"""Write the heads of ordinary answers, which are nearly all answers to HTTP/1.1 clients.

h11 can write any head for any client, and tracks what may follow; that is a tenth of the cost of a
request. An ordinary answer needs none of it: the request is whole, the connection stays open, and
the answer has a length or comes in chunks. Any other head, and a head that is not valid HTTP, is
left to h11, which knows what to do about it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from ollama_gateway.wire.headers import Headers, field_lines

_LENGTH: Final = b"content-length"
_CONNECTION_HEADERS: Final = frozenset(
    {b"connection", b"transfer-encoding", b"upgrade", b"trailer"}
)
"""Headers that change how the connection continues."""
_FINAL_STATUSES: Final = range(200, 600)
"""Statuses of final answers (RFC 9110, 15)."""
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def whole_head(status: int, headers: Headers, length: int) -> bytes | None:
    """Write the head of an answer whose headers declare this length; None leaves it to h11."""
    names = _names(headers)
    is_declared = names.count(_LENGTH) == 1 and (_LENGTH, b"%d" % length) in headers
    return _head(status, headers) if is_declared and _CONNECTION_HEADERS.isdisjoint(names) else None


def chunked_head(status: int, headers: Headers) -> bytes | None:
    """Write the head of a chunked answer; None leaves it to h11."""
    names = _names(headers)
    if _LENGTH in names or not _CONNECTION_HEADERS.isdisjoint(names):
        return None
    return _head(status, [*headers, (b"transfer-encoding", b"chunked")])


def _names(headers: Headers) -> list[bytes]:
    return [name.lower() for name, _ in headers]


def _head(status: int, headers: Headers) -> bytes | None:
    lines = field_lines(headers)
    if lines is None or status not in _FINAL_STATUSES:
        return None
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, phrase_of(status), lines)


def phrase_of(status: int) -> bytes:
    """Return the reason phrase of a status, which some clients print; empty for an unknown one."""
    return _PHRASES.get(status, b"")


def with_connection_close(headers: Headers) -> Headers:
    """Return the headers with exactly one `Connection`, which is `close`."""
    kept = [header for header in headers if header[0].lower() != b"connection"]
    return [*kept, (b"connection", b"close")]
