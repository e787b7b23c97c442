"""A small HTTP client over a byte stream that shows the framing itself."""

from __future__ import annotations

import json
from typing import Any

import anyio
import attrs
import h11
from anyio.abc import ByteStream


@attrs.define
class Answer:
    """An answer; `framing` is `length`, `chunked` or `close`."""

    status: int = 0
    version: bytes = b""
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    chunks: list[tuple[float, bytes]] = attrs.field(factory=list)
    is_complete: bool = False
    was_reset: bool = False

    @property
    def framing(self) -> str:
        """How the end of the body was marked."""
        if self.headers.get("transfer-encoding") == "chunked":
            return "chunked"
        return "length" if "content-length" in self.headers else "close"

    @property
    def kind(self) -> str:
        """The content type."""
        return self.headers.get("content-type", "")

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The body as NDJSON."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def events(self) -> list[Any]:
        """The body as server-sent events; the last may be the string `[DONE]`."""
        datas = [part.removeprefix("data: ") for part in self.body.decode().split("\n\n")[:-1]]
        return [data if data == "[DONE]" else json.loads(data) for data in datas]


def encoded(body: object) -> bytes:
    """Encode a body: bytes and text as they are, anything else as JSON."""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def request(
    method: str, path: str, body: object = b"", headers: dict[str, str] | None = None
) -> bytes:
    """Encode a request."""
    content = encoded(body)
    given = {"Host": "sim", "Content-Length": str(len(content))} | (headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def answer(stream: ByteStream, method: str = "GET") -> Answer:
    """Read one answer to its end, or to the end of the connection."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "sim")]))
    parser.send(h11.EndOfMessage())
    read = Answer()
    try:
        while not read.is_complete:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await _receive(stream))
            else:
                _note(read, event)
    except h11.RemoteProtocolError:
        pass
    except (anyio.BrokenResourceError, ConnectionResetError):
        read.was_reset = True
    return read


async def ask(
    stream: ByteStream,
    method: str,
    path: str,
    body: object = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request and read its answer."""
    await stream.send(request(method, path, body, headers))
    return await answer(stream, method)


async def _receive(stream: ByteStream) -> bytes:
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""


def _note(read: Answer, event: object) -> None:
    if isinstance(event, h11.Response):
        read.status, read.version = event.status_code, event.http_version
        read.headers = {name.decode().lower(): value.decode() for name, value in event.headers}
    elif isinstance(event, h11.Data):
        read.body += bytes(event.data)
        read.chunks.append((anyio.current_time(), bytes(event.data)))
    elif isinstance(event, h11.EndOfMessage):
        read.is_complete = True
    elif isinstance(event, h11.ConnectionClosed):
        raise h11.RemoteProtocolError("closed")
