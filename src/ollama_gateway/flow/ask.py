"""A request as the flow sees it: what was asked, and the way back to the client."""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.large import RequestBody

SMALL_BODY_BYTES: Final = 64 * 1024
"""Bytes of a body that is read before the limits of its key are asked."""


class Downstream(Protocol):
    """The client's side of a request."""

    @property
    def is_gone(self) -> bool:
        """Whether the client has left; what is sent then goes nowhere."""
        ...

    @property
    def has_started(self) -> bool:
        """Whether a status went out: from then on errors are events in the stream."""
        ...

    @property
    def announced(self) -> int | None:
        """The bytes of the request body, where its head says so."""
        ...

    async def is_at_hand(self) -> bool:
        """Whether the request body is small (64 KiB) and there, or comes at once: reading it costs
        next to nothing.
        """
        ...

    async def body(self, key_id: str = "") -> RequestBody:
        """The whole request body, which counts with the others that `key_id` holds here.

        Raises BadRequest, BodyTooLarge, RequestTimeout, LimitReached, Unavailable.
        """
        ...

    async def next_chunk(self) -> bytes:
        """The next part of a request body that is not kept, in place of `body`; b"" at its end.

        Raises RequestTimeout.
        """
        ...

    async def start(self, status: int, headers: Headers, *, tells_errors: bool = True) -> None:
        """Send the head of an answer that comes in parts.

        Args:
            status: and so on: the head.
            tells_errors: whether what goes wrong then can be told in the answer itself.

        """
        ...

    async def send(self, data: bytes) -> None:
        """Send a part of a streamed answer; waits for a client that reads slowly."""
        ...

    async def end(self, data: bytes = b"") -> None:
        """End a streamed answer, with its last part; without this it is cut, for clients to see."""
        ...

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        ...


@attrs.define
class Ask:
    """One request, before anyone knows whether it may be served."""

    request_id: str
    endpoint: Endpoint
    credential: str | None = attrs.field(repr=False)
    headers: Headers = attrs.field(repr=False)
    client: str
    arrived: float
    """Seconds on the event loop's clock."""
    downstream: Downstream
    parameter: str = ""
    """What the route's path holds behind its last slash, where it takes something there."""
    query: str = ""
    """What stands behind the question mark; Ollama's own routes have nothing there."""
    backend_overrides: tuple[str, ...] = ()
    """The backends that the request names as the one to ask; more than one is an error."""

    @property
    def path(self) -> str:
        """The route, without parameters or key."""
        return self.endpoint.path

    @property
    def dialect_name(self) -> str:
        """The dialect of the route."""
        return self.endpoint.dialect.name

    @property
    def may_only_load(self) -> bool:
        """Whether its body may turn out to have a model loaded, and nothing else."""
        announced = self.downstream.announced
        return self.endpoint.loads and (announced is None or announced <= SMALL_BODY_BYTES)

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self.downstream.is_gone
