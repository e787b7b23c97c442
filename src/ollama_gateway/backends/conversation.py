"""One request and its answer on one connection: our bytes out, h11's events in. It closes nothing.

h11 parses the answer's head, and its body unless that is chunked (`chunked.py`); what is sent never
enters it (`uploading.py`): to be told of a request by its events is most of what h11 costs.
While a body larger than one write goes out the answer is already being read, because a backend may
refuse an upload without reading it. A final answer, however early, ends the upload.
"""

from __future__ import annotations

import re
from contextlib import aclosing, suppress
from functools import cache
from typing import Final, NoReturn

import anyio
import anyio.lowlevel
import h11
import httpx
from anyio.abc import ByteStream

from ollama_gateway.backends.chunked import ChunkedBody, ChunkedBodyBroken
from ollama_gateway.backends.uploading import ONE_WRITE, BodyFailed, Upload

MAX_INTERIM: Final = 16
"""1xx responses skipped before an answer."""

LAST_STATUS: Final = 599
"""RFC 9110 knows no higher one; h11 does."""

# OSError includes ssl.SSLError. Busy: TLS can have to write in the middle of a read.
BROKEN: Final = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
)
"""What AnyIO's streams raise when they do not work."""

_OWN_HEADERS: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_HEAD: Final = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*\r\n)*\r\n"
)
"""A request's head (RFC 9110, 5.5 and 9.1; RFC 9112, 3)."""
_ENDED: Final = frozenset({h11.DONE, h11.MUST_CLOSE})


class Conversation:
    """A request on its way out, and its answer on the way in.

    Args:
        request: its framing headers are replaced by ours.
        upload: its body.
        max_head: bytes that the status lines and headers of the answer, 1xx included, may have.
        is_last: whether the backend is to close the connection afterwards.

    Raises:
        httpx.LocalProtocolError: the request is not valid HTTP.

    """

    def __init__(
        self, request: httpx.Request, upload: Upload, max_head: int, *, is_last: bool
    ) -> None:
        self._head = _frame(request, upload, is_last=is_last)
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_head)
        self._parser.send(_sent(request.method))
        self._is_last = is_last
        self._upload = upload
        self._max_head = max_head
        self._received = 0
        self._is_written = False
        self._body_failure: BodyFailed | None = None
        self._chunked: ChunkedBody | None = None
        self._may_stay = False
        """Whether a backend that chunks its answer keeps the connection."""
        self._early = b""
        """What came of the body with the head."""

    @property
    def is_complete(self) -> bool:
        """Whether the body has ended as its framing says; what follows it is never looked at."""
        if self._chunked is not None:
            return self._chunked.is_complete
        return self._parser.their_state in _ENDED

    @property
    def was_heard(self) -> bool:
        """Whether a byte of an answer has come."""
        return self._received > 0

    @property
    def leaves_it_reusable(self) -> bool:
        """Whether both sides have said all, and the backend may be asked again."""
        if self._is_last:
            return False
        if self._chunked is not None:
            is_ended = self._chunked.is_complete and not self._chunked.rest
            return is_ended and self._may_stay and self._is_written
        # h11 leaves DONE where the backend wants to close, by its version or its header.
        is_ended = self._parser.their_state is h11.DONE and self._is_written
        return is_ended and not self._parser.trailing_data[0]

    async def ask(self, stream: ByteStream) -> h11.Response:
        """Send it; the head of the answer. Raises httpx.TransportError, BodyFailed.

        Args:
            stream: connected, and used by nothing else until this is over.

        """
        self.stream = stream
        head, upload = self._head, self._upload
        try:
            if upload.source is not None or len(head) + len(upload.content) > ONE_WRITE:
                return await self._ask_while_writing()
            with suppress(*BROKEN):
                await stream.send(head + upload.content)
                self._is_written = True
            return await self._read_head()
        except httpx.TransportError as error:
            if self._is_written:
                raise
            raise httpx.WriteError("the backend broke off the request") from error

    async def _ask_while_writing(self) -> h11.Response:
        outcome: h11.Response | Exception = httpx.WriteError("the request's body broke off")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, tasks.cancel_scope)
            # Held back until the group is left, which would wrap it.
            try:
                outcome = await self._read_head()
            except httpx.TransportError as error:
                outcome = error
            tasks.cancel_scope.cancel()
        if isinstance(outcome, h11.Response):
            return outcome
        raise self._body_failure or outcome

    async def _write(self, reading: anyio.CancelScope) -> None:
        # A broken stream is left to the reader: an answer may have come before it, and if none
        # did, a connection that takes no more bytes gives none either.
        with suppress(*BROKEN):
            try:
                async with aclosing(self._upload.writes(self._head)) as writes:
                    async for piece in writes:
                        await self.stream.send(piece)
                        # A write over TLS that is cancelled does not say so (`connecting.py`).
                        await anyio.lowlevel.checkpoint_if_cancelled()
                self._is_written = True
            except BodyFailed as failure:
                self._body_failure = failure
                reading.cancel()

    async def _read_head(self) -> h11.Response:
        for _ in range(MAX_INTERIM + 1):
            event = self._next_event()
            while event is h11.NEED_DATA:
                await self._receive()
                event = self._next_event()
            self._check_head(event)
            if isinstance(event, h11.Response):
                self._take_over(event)
                return event
        raise httpx.RemoteProtocolError("the backend sent too many interim responses")

    def _check_head(self, event: object) -> None:
        """Refuse what h11 lets pass: sizes when all came at once, odd statuses, two framings."""
        if self._received - len(self._parser.trailing_data[0]) > self._max_head:
            raise httpx.RemoteProtocolError("the headers of the backend's answer are too large")
        if not isinstance(event, (h11.Response, h11.InformationalResponse)):
            _refuse()
        if event.status_code == httpx.codes.SWITCHING_PROTOCOLS or event.status_code > LAST_STATUS:
            _refuse()
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            _refuse()

    def _take_over(self, head: h11.Response) -> None:
        """Read a chunked body without h11, which knows by now whether there is one."""
        headers = dict(head.headers)
        if b"transfer-encoding" in headers and self._parser.their_state is h11.SEND_BODY:
            self._chunked, self._early = ChunkedBody(), self._parser.trailing_data[0]
            self._may_stay = head.http_version >= b"1.1" and not _wants_close(head)

    async def read_chunk(self) -> bytes:
        """Read what one read of the stream adds to the body; b"" is its end."""
        if self._chunked is None:
            return await self._read_by_h11()
        try:
            data, self._early = self._early, b""
            piece = self._chunked.feed(data)
            while not piece and not self._chunked.is_complete:
                piece = self._chunked.feed(await self._received_data())
        except ChunkedBodyBroken:
            _refuse()
        return piece

    async def _read_by_h11(self) -> bytes:
        parts: list[bytes] = []
        while not self.is_complete:
            try:
                event = self._next_event()
            except httpx.RemoteProtocolError:
                if parts:
                    break  # h11 stays in its error: the next call raises it
                raise
            if isinstance(event, h11.Data):
                parts.append(event.data)
            elif event is h11.NEED_DATA and parts:
                break
            elif event is h11.NEED_DATA:
                await self._receive()
            elif not isinstance(event, h11.EndOfMessage):
                _refuse()
        return b"".join(parts)

    def _next_event(self) -> object:
        try:
            return self._parser.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError("the backend's answer broke HTTP") from error

    async def _receive(self) -> None:
        self._parser.receive_data(await self._received_data(is_end_fine=True))

    async def _received_data(self, *, is_end_fine: bool = False) -> bytes:
        try:
            data = await self.stream.receive()
        except anyio.EndOfStream:
            if not is_end_fine:
                raise httpx.RemoteProtocolError("the backend's answer is cut short") from None
            data = b""
        except BROKEN as error:
            raise httpx.ReadError("the connection to the backend broke") from error
        self._received += len(data)
        return data


def _wants_close(head: h11.Response) -> bool:
    tokens = b",".join(value for name, value in head.headers if name == b"connection")
    return b"close" in {token.strip().lower() for token in tokens.split(b",")}


def _refuse() -> NoReturn:
    raise httpx.RemoteProtocolError("the backend's answer broke HTTP")


def _frame(request: httpx.Request, upload: Upload, *, is_last: bool) -> bytes:
    """Make the head's bytes, with a framing that is ours whatever the request's headers say."""
    headers = [item for item in request.headers.raw if item[0].lower() not in _OWN_HEADERS]
    if upload.length != 0 or request.method in _METHODS_WITH_BODY:
        headers += upload.framing
    if is_last:
        headers.append((b"Connection", b"close"))
    try:
        first = b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)
    except UnicodeError:
        raise _not_http() from None
    head = b"".join([first, *(b"%b: %b\r\n" % header for header in headers), b"\r\n"])
    # A value that holds a line's end would make lines of its own: they are counted.
    if _HEAD.fullmatch(head) is None or head.count(b"\n") != len(headers) + 2:
        raise _not_http()
    return head


def _not_http() -> httpx.LocalProtocolError:
    # Nothing of what is refused is quoted, as it can be a credential.
    return httpx.LocalProtocolError("the request is not valid HTTP")


@cache
def _sent(method: str) -> h11.Request:
    """What h11 is told of a request, whose answer it is to read: it goes by the method alone."""
    return h11.Request(method=method, target="/", headers=[("Host", "h")])
