"""Reads the head of an answer: a plain one by a regular expression, any other by h11.

h11 is strict and slow: its events, headers and state machine cost more than all other work on an
answer that is not a stream. Nearly all heads are plain: one regular expression matches them whole,
with the same result as h11's, which a test compares. Other heads, and heads that do not arrive in
one read, are left to h11; what h11 accepts too easily is refused here.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NoReturn

import attrs
import h11
import httpx

from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.receive_buffer import HeadBroken, HeadTooLarge, ReceiveBuffer

MAX_INTERIM: Final = 16
"""1xx responses skipped before an answer."""
LAST_STATUS: Final = 599
"""The highest status of RFC 9110; h11 accepts higher ones."""

_CONTENT_LENGTH: Final = b"content-length"
_TRANSFER_ENCODING: Final = b"transfer-encoding"
_PLAIN: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) ([\t -~\x80-\xff]*)\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?"
    rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\r\n)+\r\n"
)
"""A whole head in which no value begins or ends with white space and no line is folded."""
_FIELD: Final = re.compile(rb"([^:\r\n]+): ?([^\r\n]*)\r\n")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


@attrs.frozen(eq=False)
class Head:
    """The head of an answer."""

    status: int
    headers: Headers
    """In their order and spelling."""
    fields: dict[bytes, bytes]
    """By lower-case name; the values of a repeated header are joined by commas."""
    reason: bytes = b""
    version: bytes = b"1.1"

    @property
    def keeps_connection(self) -> bool:
        """True if the backend accepts another request after this answer."""
        tokens = self.fields.get(b"connection", b"").lower().split(b",")
        return self.version >= b"1.1" and b"close" not in [token.strip() for token in tokens]


Found = tuple[Head, bytes]
"""A head, and the bytes after it."""


def plain_head(data: bytes, most: int) -> Found | None:
    """Read a plain head at the start of these bytes; return None if h11 must read or refuse it.

    A plain head is whole, has at most `most` bytes, no name twice, and exactly one usual framing.
    """
    found = _PLAIN.match(data)
    if found is None or found.end() > most:
        return None
    headers: Headers = _FIELD.findall(data, found.end(2) + 2, found.end() - 2)
    fields = {name.lower(): value for name, value in headers}
    length = fields.get(_CONTENT_LENGTH)
    if _TRANSFER_ENCODING in fields:
        is_usual = length is None and fields[_TRANSFER_ENCODING] == b"chunked"
    else:
        is_usual = length is not None and _LENGTH.fullmatch(length) is not None
    if not is_usual or len(fields) < len(headers):
        return None
    return Head(int(found[1]), headers, fields, found[2]), data[found.end() :]


class HeadByH11:
    """Reads any head, and the 1xx heads before it, as the bytes arrive.

    Args:
        method: the request's method.
        most: bytes allowed for all heads together.

    """

    def __init__(self, method: str, most: int) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=most)
        self._parser.send(_sent(method))
        self._incoming = ReceiveBuffer(most)
        self._left = most
        self._interim = 0

    def feed(self, data: bytes) -> Found | None:
        """Add bytes, or b"" at the end of the connection; return the head once it is complete.

        Raises httpx.RemoteProtocolError, with a text that quotes nothing of the backend.
        """
        if not data:
            refuse()
        self._incoming.put(data)
        while (head := self._whole_head()) is not None:
            checked = self._checked(self._read(head))
            if isinstance(checked, h11.Response):
                return _head(checked), self._incoming.take(len(self._incoming))
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise httpx.RemoteProtocolError("the backend sent too many interim responses")
        return None

    def _whole_head(self) -> bytes | None:
        """Take the next whole head, or None; refuse heads that are too large together."""
        try:
            head = self._incoming.take_head()
        except HeadTooLarge:
            _refuse_size()
        except HeadBroken:
            refuse()
        self._left -= len(head or b"")
        if self._left < 0:
            _refuse_size()
        return head

    def _read(self, head: bytes) -> object:
        try:
            self._parser.receive_data(head)
            return self._parser.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError("the backend's answer broke HTTP") from error

    def _checked(self, event: object) -> h11.Response | h11.InformationalResponse:
        """Refuse heads that h11 accepts: unusual statuses, two framings."""
        if not isinstance(event, (h11.Response, h11.InformationalResponse)):
            refuse()
        if event.status_code == httpx.codes.SWITCHING_PROTOCOLS or event.status_code > LAST_STATUS:
            refuse()
        if {_CONTENT_LENGTH, _TRANSFER_ENCODING} <= {name for name, _ in event.headers}:
            refuse()
        return event


def refuse() -> NoReturn:
    """Refuse an answer, without quoting it."""
    raise httpx.RemoteProtocolError("the backend's answer broke HTTP")


def _refuse_size() -> NoReturn:
    raise httpx.RemoteProtocolError("the headers of the backend's answer are too large")


def _head(event: h11.Response) -> Head:
    fields: dict[bytes, bytes] = {}
    for name, value in event.headers:
        fields[name] = b", ".join([fields[name], value]) if name in fields else value
    headers = event.headers.raw_items()
    return Head(event.status_code, headers, fields, event.reason, event.http_version)


@cache
def _sent(method: str) -> h11.Request:
    """Make the request that h11 needs in order to read its answer; only the method matters."""
    return h11.Request(method=method, target="/", headers=[("Host", "h")])
