"""Requests as one backend gets them: its own address, host and headers; and their heads as bytes.

A `Message` is what the transport sends. Inference makes it straight away; all else makes a request
of httpx, which the transport turns into one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs
import httpx

from ollama_gateway.backends.uploading import Headers, OutgoingBody
from ollama_gateway.wire.headers import field_lines
from ollama_gateway.wire.large import RequestBody

MAX_ROUTES: Final = 64
"""Routes whose URLs are remembered; some end in what a client says."""

_FRAMING: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.1\r\n")
"""RFC 9110, 9.1; RFC 9112, 3."""


@attrs.frozen(eq=False)
class Message:
    """A request on its way out."""

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]] = attrs.field(repr=False)
    """All but the framing, which is ours, whatever they say of it."""
    upload: OutgoingBody
    is_once: bool = False
    """Whether it must not go out twice."""

    @classmethod
    def of(cls, request: httpx.Request, *, is_once: bool) -> Message:
        """A request of httpx."""
        upload = OutgoingBody.of(request)
        is_once = is_once or upload.source is not None
        return cls(request.method, request.url.raw_path, request.headers.raw, upload, is_once)

    def head(self, *, is_last: bool) -> bytes:
        """The head's bytes; `is_last` asks the backend to close the connection afterwards.

        Raises:
            httpx.LocalProtocolError: it is not valid HTTP.

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
    """Sent with every request; may hold secrets."""
    _routes: dict[str, tuple[httpx.URL, bytes]] = attrs.field(factory=dict, init=False, repr=False)
    _first: Headers = attrs.field(factory=list, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # What the settings say of the host counts, as it does in httpx.
        if b"host" not in {name.lower() for name, _ in self.own}:
            self._first.append((b"Host", self.url.netloc))
        self._first.append((b"accept-encoding", b"identity"))

    @classmethod
    def of(cls, url: httpx.URL, headers: Mapping[str, str]) -> Outgoing:
        """For a backend of this address, with these headers."""
        return cls(url, [(name.encode(), value.encode()) for name, value in headers.items()])

    def message(self, method: str, path: str, headers: Headers, content: RequestBody) -> Message:
        """One request, for `Transport.ask`."""
        _, target = self._route_to(path)
        upload = OutgoingBody(content, length=len(content))
        return Message(method, target, [*self._first, *headers, *self.own], upload)

    def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        content: bytes | httpx.AsyncByteStream,
    ) -> httpx.Request:
        """One request of httpx; see `Backend.request`."""
        url, _ = self._route_to(path)
        sent = [*self._first, *headers, *self.own]
        if isinstance(content, bytes):
            return httpx.Request(method, url, headers=sent, content=content)
        return httpx.Request(method, url, headers=sent, stream=content)

    def _route_to(self, path: str) -> tuple[httpx.URL, bytes]:
        """The URL and target of a route, made once: that took 4 % of a request's time."""
        place = self._routes.get(path)
        if place is None:
            url = self.url.copy_with(path=self.url.path.rstrip("/") + path)
            place = url, url.raw_path
            if len(self._routes) < MAX_ROUTES:
                self._routes[path] = place
        return place


def _not_http() -> httpx.LocalProtocolError:
    # Nothing of what is refused is quoted, as it can be a credential.
    return httpx.LocalProtocolError("the request is not valid HTTP")
