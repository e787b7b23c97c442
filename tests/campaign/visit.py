"""Clients in the loop of a test: each request on a connection of its own, and its result.

Like those of `client.py`, but without threads, for the gateways of `racing.py`.
"""

from __future__ import annotations

import json
import math
from typing import Final

import attrs
import h11
import trio

PATH: Final = "/api/chat"


def body_of(model: str, prompt: str, *, streams: bool) -> bytes:
    """Return the body of a chat or completion, whose prompt identifies it."""
    messages = [{"role": "user", "content": prompt}]
    chat = {"model": model, "messages": messages, "prompt": prompt, "stream": streams}
    return json.dumps(chat).encode()


@attrs.define(eq=False)
class Visit:
    """One chat on a connection of its own, and what its client saw.

    Args:
        port: of the gateway.
        key: the API key's text.
        model: its name.
        prompt: unique within a test.
        streams: whether the answer is streamed.
        leaves_at_first: whether the client closes the connection at the first chunk.
        path: `/api/chat`, or `/api/generate`.
        stays: seconds from sending the request until the client closes the connection.

    """

    port: int
    key: str
    model: str
    prompt: str
    streams: bool = True
    leaves_at_first: bool = False
    path: str = PATH
    stays: float = math.inf
    status: int = 0
    request_id: str = ""
    data: bytes = b""
    first_chunk_at: float = math.inf
    is_broken: bool = False
    """Whether the connection ended before the answer."""
    closed_at: float = math.inf
    """When the socket was closed."""
    _staying: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT), init=False)

    @property
    def is_whole(self) -> bool:
        """Whether the whole answer arrived."""
        return self.status == 200 and b'"done":true' in self.data and self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the whole response arrived, an error included."""
        return self._http.their_state in {h11.DONE, h11.MUST_CLOSE}

    def leave(self) -> None:
        """Close the connection, whatever has arrived."""
        self._staying.cancel()

    async def run(self) -> None:
        """Send the request, and read until the answer ends or the client leaves."""
        with self._staying:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            try:
                await stream.send_all(self._request())
                self._staying.deadline = trio.current_time() + self.stays
                await self._read(stream)
            except (h11.RemoteProtocolError, trio.BrokenResourceError):
                self.is_broken = True
            finally:
                stream.socket.close()
                self.closed_at = trio.current_time()

    def _request(self) -> bytes:
        body = body_of(self.model, self.prompt, streams=self.streams)
        headers = {
            "host": "gateway",
            "authorization": f"Bearer {self.key}",
            "content-length": str(len(body)),
        }
        head = h11.Request(method="POST", target=self.path, headers=list(headers.items()))
        parts = [head, h11.Data(data=body), h11.EndOfMessage()]
        return b"".join(self._http.send(part) or b"" for part in parts)

    async def _read(self, stream: trio.SocketStream) -> None:
        while not isinstance(event := self._http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                self.status = event.status_code
                self.request_id = dict(event.headers)[b"x-request-id"].decode()
            elif isinstance(event, h11.Data):
                self.first_chunk_at = min(self.first_chunk_at, trio.current_time())
                self.data += event.data
                if self.leaves_at_first:
                    return
