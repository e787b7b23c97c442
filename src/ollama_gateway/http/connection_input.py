"""Sort the bytes of a connection: some go to h11, some to the request stream, early ones wait.

h11 gets whole heads, and the bodies that have a length, so nothing waits in its buffer. h11 never
sees a chunked body: the body waits in the request stream as it came, and when the application has
read the last chunk, h11 learns that the request is whole.
"""

from __future__ import annotations

import anyio
import h11

from ollama_gateway.http.chunks import Chunks
from ollama_gateway.http.request_stream import RequestStream
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.receive_buffer import HeadBroken, ReceiveBuffer


class ConnectionInput:
    """The bytes of one connection, request after request.

    Args:
        most: bytes that a request head may have.
        turn: for bodies of many chunks; see `Chunks`.

    """

    def __init__(self, most: int, turn: anyio.Lock) -> None:
        self.request_stream = RequestStream()
        """The stream of the current request, or of the last one."""
        self._turn = turn
        self.early = ReceiveBuffer(most)
        """Bytes received since the last request was whole: a partial head, or early requests."""
        self._left = 0
        """Bytes still to come of a body with a length."""
        self._chunked: h11.Connection | None = None
        """While a chunked body arrives: the h11 connection to tell of its end."""

    def put(self, data: bytes) -> None:
        """Store bytes from the socket."""
        if self._chunked is None:
            self.early.put(data)
        else:
            self.request_stream.put(data)

    def next_event(self, http: h11.Connection) -> object:
        """Give h11 the bytes that are for it, and return its next event.

        Raises HeadBroken and h11.RemoteProtocolError if the bytes are no valid request.
        """
        if http.their_state is h11.IDLE:
            head = self.early.take_head()
            if head is None:
                return h11.NEED_DATA
            if b"\n " in head or b"\n\t" in head:
                raise HeadBroken("folded header lines are not accepted")
            http.receive_data(head)
        elif self._chunked is not None:
            return h11.NEED_DATA
        elif self._left and self.early:
            data = self.early.take(self._left)
            self._left -= len(data)
            http.receive_data(data)
        return http.next_event()

    def begin(self, http: h11.Connection, headers: Headers) -> None:
        """Begin to receive a request's body; h11 has checked its headers, and names each once."""
        fields = dict(headers)
        if b"transfer-encoding" not in fields:
            self._left, self.request_stream = int(fields.get(b"content-length", 0)), RequestStream()
            return
        self._left, self._chunked = 0, http
        self.request_stream = RequestStream(Chunks(self._turn, self._end_chunks))
        self.request_stream.put(self.early.take(len(self.early)))

    def _end_chunks(self, following: bytes) -> None:
        http, self._chunked = self._chunked, None
        self.early.put(following)
        if http is not None:
            http.receive_data(b"0\r\n\r\n")
            http.next_event()

    def break_cycles(self) -> None:
        """Drop the last request, whose chunks refer back to this object."""
        self.request_stream = RequestStream()
