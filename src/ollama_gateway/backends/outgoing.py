"""Makes requests for one backend, with its address, host and headers, and writes their heads.

The transport sends `Message`s. Inference makes them directly; polls and commands make requests of
httpx, which the transport turns into messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs
import httpx

from ollama_gateway.backends.uploading import OutgoingBody
from ollama_gateway.wire.headers import Headers, field_lines
from ollama_gateway.wire.large import RequestBody

MAX_ROUTES: Final = 64
"""Routes whose URLs are remembered; clients can make up any number of routes."""

_FRAMING: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.1\r\n")
"""RFC 9110, 9.1; RFC 9112, 3."""


@attrs.frozen(eq=False)
class Message:
    """A request to a backend, ready to be sent."""

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]] = attrs.field(repr=False)
    """Framing headers among them are ignored; the gateway adds its own."""
    upload: OutgoingBody
    is_once: bool = False
    """Whether it must not be sent twice."""

    @classmethod
    def of(cls, request: httpx.Request, *, is_once: bool) -> Message:
        """Convert a request of httpx."""
        upload = OutgoingBody.of(request)
        is_once = is_once or upload.source is not None
        return cls(request.method, request.url.raw_path, request.headers.raw, upload, is_once)

    def head(self, *, is_last: bool) -> bytes:
        """Write the head; `is_last` asks the backend to close the connection afterwards.

        Raises:
            httpx.LocalProtocolError: the request is not valid HTTP.

        """
        lines = field_lines([item for item in self.headers if item[0].lower() not in _FRAMING])
        try:
            first = b"%b %b HTTP/1.1\r\n" % (self.method.encode("ascii"), self.target)
        except UnicodeError:
            raise _not_http() from None
        if lines is None or _REQUEST_LINE.fullmatch(first) is None:
            raise _not_http()
        head = first + lines
        if self.upload.length != 0 or self.method in _METHODS_WITH_BODY:
            head += self.upload.framing
        return head + (b"Connection: close\r\n\r\n" if is_last else b"\r\n")


@attrs.frozen(eq=False)
class Outgoing:
    """Makes the requests of one backend."""

    url: httpx.URL
    own: Headers = attrs.field(repr=False)
    """Sent with every request; may contain secrets."""
    _routes: dict[str, tuple[httpx.URL, bytes]] = attrs.field(factory=dict, init=False, repr=False)
    _first: Headers = attrs.field(factory=list, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # A host header of the settings wins, as in httpx.
        if b"host" not in {name.lower() for name, _ in self.own}:
            self._first.append((b"Host", self.url.netloc))
        self._first.append((b"accept-encoding", b"identity"))

    @classmethod
    def of(cls, url: httpx.URL, headers: Mapping[str, str]) -> Outgoing:
        """Encode the headers of a backend."""
        return cls(url, [(name.encode(), value.encode()) for name, value in headers.items()])

    def message(self, method: str, path: str, headers: Headers, content: RequestBody) -> Message:
        """Make a request for `Transport.ask`."""
        _, target = self._route_to(path)
        upload = OutgoingBody(content, length=len(content))
        return Message(method, target, [*self._first, *headers, *self.own], upload)

    def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        content: bytes | httpx.AsyncByteStream = b"",
    ) -> httpx.Request:
        """Make a request of httpx, for a poll or a command.

        For a streamed body of known length, `headers` has the `Content-Length`.
        """
        url, _ = self._route_to(path)
        sent = [*self._first, *headers, *self.own]
        if isinstance(content, bytes):
            return httpx.Request(method, url, headers=sent, content=content)
        return httpx.Request(method, url, headers=sent, stream=content)

    def _route_to(self, path: str) -> tuple[httpx.URL, bytes]:
        """Return a route's URL and target, cached: making them took 4 % of a request's time."""
        route = self._routes.get(path)
        if route is None:
            url = self.url.copy_with(path=self.url.path.rstrip("/") + path)
            route = url, url.raw_path
            if len(self._routes) < MAX_ROUTES:
                self._routes[path] = route
        return route


def _not_http() -> httpx.LocalProtocolError:
    # The refused part is not quoted: it can be a credential.
    return httpx.LocalProtocolError("the request is not valid HTTP")
