"""The head of an answer: an ordinary one is read here, every other one by h11.

h11 is strict and slow: its events, its headers and its state machine cost more than all else that
is done for an answer that is not a stream. Nearly every head is of one plain kind, which a regular
expression knows whole, and h11 reads it in the same way: a test holds the one to the other. What is
not of that kind, or did not come in one read, is h11's, and what h11 lets pass too easily is
refused here.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NoReturn

import attrs
import h11
import httpx

from ollama_gateway.backends.uploading import Headers
from ollama_gateway.wire.receive_buffer import HeadBroken, HeadTooLarge, ReceiveBuffer

MAX_INTERIM: Final = 16
"""1xx responses skipped before an answer."""
LAST_STATUS: Final = 599
"""RFC 9110 knows no higher one; h11 does."""

_CONTENT_LENGTH: Final = b"content-length"
_TRANSFER_ENCODING: Final = b"transfer-encoding"
_PLAIN: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) ([\t -~\x80-\xff]*)\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?"
    rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\r\n)+\r\n"
)
"""A whole head, in which no value begins or ends in white space and no line is folded."""
_FIELD: Final = re.compile(rb"([^:\r\n]+): ?([^\r\n]*)\r\n")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


@attrs.frozen(eq=False)
class Head:
    """What comes before an answer's body."""

    status: int
    headers: Headers
    """In order and as they are spelt."""
    fields: dict[bytes, bytes]
    """By their names in lower case; what is said more than once is joined by commas."""
    reason: bytes = b""
    version: bytes = b"1.1"

    @property
    def keeps_connection(self) -> bool:
        """Whether the backend will take another request behind this answer."""
        tokens = self.fields.get(b"connection", b"").lower().split(b",")
        return self.version >= b"1.1" and b"close" not in [token.strip() for token in tokens]


Found = tuple[Head, bytes]
"""A head, and what came behind it."""


def plain_head(data: bytes, most: int) -> Found | None:
    """The head that these bytes begin with; None where it is for h11 to read, or to refuse.

    A plain one is whole, has up to `most` bytes, no name twice, and one framing of the usual ones.
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
    """Reads any head, 1xx before it included, as its bytes arrive.

    Args:
        method: that of the request.
        most: bytes that the heads may have, all of them together.

    """

    def __init__(self, method: str, most: int) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=most)
        self._parser.send(_sent(method))
        self._incoming = ReceiveBuffer(most)
        self._left = most
        self._interim = 0

    def feed(self, data: bytes) -> Found | None:
        """The head, once it is there; b"" says that no more comes.

        Raises httpx.RemoteProtocolError, with a text that holds nothing of the backend's.
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
        """The next one; refuses those that are too large, all of them together."""
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
        """Refuse what h11 lets pass: odd statuses, two framings."""
        if not isinstance(event, (h11.Response, h11.InformationalResponse)):
            refuse()
        if event.status_code == httpx.codes.SWITCHING_PROTOCOLS or event.status_code > LAST_STATUS:
            refuse()
        if {_CONTENT_LENGTH, _TRANSFER_ENCODING} <= {name for name, _ in event.headers}:
            refuse()
        return event


def refuse() -> NoReturn:
    """Refuse an answer, and quote nothing of it."""
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
    """What h11 is told of a request, whose answer it is to read: it goes by the method alone."""
    return h11.Request(method=method, target="/", headers=[("Host", "h")])
