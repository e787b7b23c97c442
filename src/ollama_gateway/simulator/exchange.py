"""One request and the writing of its answer, with the faults its script asks for.

A handler answers through `respond` (a whole answer), or `start`, `chunk` and `finish` (a stream:
chunked, or for HTTP/1.0 ended by the close). Every chunk is counted here, so "cut after two chunks"
means the same in every dialect. A cut is raised as `Cut`, which the connection turns into a close.

The last chunk and the terminator go out in one write, and `is_ending` is set before it: a client
that leaves once it has everything has not left too early.
"""

from __future__ import annotations

import email.utils
import hashlib
import http
from collections.abc import Awaitable, Callable

import anyio
import attrs
import h11

from ollama_gateway.simulator.script import NOTHING, Script

NO_CONTENT = 204
BUFFER = 2048
"""Bytes; a longer answer is sent in chunks."""
UPLOADS = "/api/blobs/"
"""Uploads to this path are hashed and not kept."""


class Cut(Exception):
    """The script demands that the connection closes here."""


@attrs.define(eq=False)
class Upload:
    """A body that is counted and hashed as it arrives, and not kept."""

    size: int = 0
    _hash: hashlib._Hash = attrs.field(factory=hashlib.sha256)

    def take(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        self._hash.update(data)

    @property
    def digest(self) -> str:
        """The digest of the bytes so far, as `sha256:` and 64 hex digits."""
        return f"sha256:{self._hash.hexdigest()}"


@attrs.define(eq=False)
class Seen:
    """The simulator's record of one request; times are of `anyio.current_time()`.

    Args:
        path: with the query, as it was sent.
        upload: replaces the body if that may be large and is not kept.
        gone_at: when the client closed before the answer was complete.
        finished_at: when the last byte of the answer was handed over.

    """

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    at: float
    body: bytes = b""
    upload: Upload | None = None
    gone_at: float | None = None
    finished_at: float | None = None

    def header(self, name: str) -> str | None:
        """Return the first header of that name, in any case."""
        wanted = name.lower().encode()
        for key, value in self.headers:
            if key.lower() == wanted:
                return value.decode("latin-1")
        return None


@attrs.define(eq=False)
class Exchange:
    """A request that was read completely, and the means to answer it.

    Args:
        seen: the request.
        path: percent-decoded, without the query.
        is_client_gone: checks on the connection whether the client has closed it.

    """

    seen: Seen
    path: str
    query: str
    _http: h11.Connection
    _send: Callable[[bytes], Awaitable[None]]
    _is_client_gone: Callable[[], bool]
    script: Script = NOTHING
    extra: list[tuple[str, str]] = attrs.field(factory=list)
    is_ending: bool = False
    _chunks: int = 0
    _pending: bytes = b""

    @property
    def method(self) -> str:
        """The request's method."""
        return self.seen.method

    @property
    def is_in_flight(self) -> bool:
        """Whether more of the answer is to come, and the client waits for it."""
        return not self.is_ending and not self._is_client_gone()

    @property
    def has_begun(self) -> bool:
        """Whether the head of the answer is decided."""
        return self._http.our_state is not h11.SEND_RESPONSE

    async def respond(self, status: int, body: bytes = b"", kind: str = "") -> None:
        """Send a whole answer; `kind` is its content type, empty for none.

        Its length is sent if Go's server knows it: if all of it fits into the buffer.
        """
        is_known = status != NO_CONTENT and len(body) <= BUFFER
        length = [("Content-Length", str(len(body)))] if is_known else []
        data = self._head(status, kind, length)
        if self.method != "HEAD":
            data = await self._framed_body(data, body)
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._last(data)

    def start(self, status: int, kind: str) -> None:
        """Decide the head of a stream; the first chunk carries it."""
        self._pending = self._head(status, kind, [])

    async def chunk(self, data: bytes) -> None:
        """Send one record of a stream."""
        await self._send(self._framed(data))
        self._chunks += 1
        await self.fault()

    async def finish(self, data: bytes = b"") -> None:
        """Send the last record, if there is one, and the end of the stream."""
        if data and self._chunks + 1 in (self.script.cut_after, self.script.hang_after):
            await self.chunk(data)
        piece = self._framed(data) if data else self._taken()
        await self._last(piece + (self._http.send(h11.EndOfMessage()) or b""))

    async def raw(self, data: bytes, drip: float) -> None:
        """Send exactly the script's bytes, one at a time if they drip.

        Raises:
            Cut: always; nothing can follow.

        """
        for piece in [bytes([byte]) for byte in data] if drip else [data]:
            await self._send(piece)
            await anyio.sleep(drip)
        raise Cut

    def _taken(self) -> bytes:
        pending, self._pending = self._pending, b""
        return pending

    def _framed(self, data: bytes) -> bytes:
        return self._taken() + (self._http.send(h11.Data(data=data)) or b"")

    def _head(self, status: int, kind: str, framing: list[tuple[str, str]]) -> bytes:
        """Write the status line and the headers in the order of Go's server."""
        own = [*self.extra, *self.script.headers]
        own += [("Content-Type", kind)] if kind else []
        date = ("Date", email.utils.formatdate(usegmt=True))
        headers = [
            (name.encode(), value.encode("latin-1"))
            for name, value in [*sorted(own), date, *framing]
        ]
        head = h11.Response(status_code=status, headers=headers, reason=_reason(status))
        data = self._http.send(head) or b""
        if self._http.their_http_version == b"1.0":
            data = data.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        return data

    async def _framed_body(self, head: bytes, body: bytes) -> bytes:
        """Return the framed head and body; half of them if the script breaks a whole answer."""
        script = self.script
        if not (script.cut_after or script.hang_after):
            return head + (self._http.send(h11.Data(data=body)) or b"")
        half = body[: len(body) // 2]
        await self._send(head + (self._http.send(h11.Data(data=half)) or b""))
        if script.hang_after:
            await anyio.sleep_forever()
        raise Cut

    async def fault(self) -> None:
        """Hang or cut if the script demands it after the chunks written so far.

        Raises:
            Cut: the connection is to be closed.

        """
        if self.script.hang_after == self._chunks:
            await anyio.sleep_forever()
        if self.script.cut_after == self._chunks:
            raise Cut

    async def _last(self, data: bytes) -> None:
        self.is_ending = True
        await self._send(data)
        self.seen.finished_at = anyio.current_time()


def _reason(status: int) -> bytes:
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
