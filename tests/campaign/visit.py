"""Clients in the loop of a test: each request on a connection of its own, and what came of it.

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
    """A chat, or a completion; its prompt tells it from all others."""
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
        prompt: of all requests of a test, each has another.
        streams: whether the answer comes in chunks.
        leaves_at_first: whether the client closes the connection when the first chunk has come.
        path: `/api/chat`, or `/api/generate`.
        stays: seconds after the request was sent, until the client closes the connection.

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
    """Whether the connection ended before the answer did."""
    closed_at: float = math.inf
    """When the socket was closed."""
    _staying: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT), init=False)

    @property
    def is_whole(self) -> bool:
        """Whether the whole answer came."""
        return self.status == 200 and b'"done":true' in self.data and self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether all of the response came, whatever it is."""
        return self._http.their_state in {h11.DONE, h11.MUST_CLOSE}

    def leave(self) -> None:
        """Close the connection, whatever has come."""
        self._staying.cancel()

    async def run(self) -> None:
        """Make the request, and read what comes until its end or the client's."""
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
