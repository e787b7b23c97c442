"""One HTTP/1.1 connection: h11 reads, the exchange writes, and a watcher looks for the close.

While an answer is under way a second task goes on reading. What comes early (a pipelined request)
stays in h11's buffer for the next cycle; an end of the stream means that the client has gone, and
the exchange is cancelled on the spot, as Ollama's runner is. A half-close counts as a close, as it
does in Go.

The rule: whatever happens on a connection ends with the connection, never with the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import anyio
import attrs
import h11
from anyio.abc import ByteStream

from ollama_gateway.simulator.exchange import Cut, Exchange, Seen

MAX_HEAD = 1 << 20
MAX_EARLY = 1 << 18
BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\n\r\n400 Bad Request"
)
BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Gone(Exception):
    """The client closed the connection."""


@attrs.define(eq=False)
class Connection:
    """Serves one connection until either side closes it.

    Args:
        stream: the bytes; closing it is the caller's part.
        note: told of every request as soon as its head was read.
        answer: answers a request that was read in full.

    """

    _stream: ByteStream
    _note: Callable[[Seen], None]
    _answer: Callable[[Exchange], Awaitable[None]]
    _http: h11.Connection = attrs.field(
        factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    )

    async def serve(self) -> None:
        """Answer requests one after the other until the connection is over."""
        try:
            while await self._cycle():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError:
            await self._refuse()
        except (Gone, *BROKEN):
            return

    async def _cycle(self) -> bool:
        """Serve one request; tell whether another may follow."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return False
        if head.http_version not in (b"1.0", b"1.1"):
            raise h11.RemoteProtocolError("version")
        seen = _seen(head)
        self._note(seen)
        try:
            seen.body = await self._body()
            return await self._exchange(seen)
        except (Gone, *BROKEN):
            seen.gone_at = anyio.current_time()
            raise

    async def _exchange(self, seen: Seen) -> bool:
        path, _, query = seen.path.partition("?")
        exchange = Exchange(seen, unquote(path), query, self._http, self._stream.send)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, exchange, tasks.cancel_scope)
                failure = await self._outcome(exchange)
                tasks.cancel_scope.cancel()
        finally:
            exchange.script.reset and self._set_linger()
        if seen.gone_at is not None or failure is not None:
            return await self._break(exchange, failure)
        return h11.DONE is self._http.our_state is self._http.their_state

    async def _outcome(self, exchange: Exchange) -> Exception | None:
        """Run the answer; give what ended it early, so that no group is raised."""
        try:
            await self._answer(exchange)
        except (Cut, *BROKEN) as error:
            return error
        return None
