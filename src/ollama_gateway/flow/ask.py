"""A request as it arrived, and the way back to its client."""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.keys.key import Principal
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.large import RequestBody

SMALL_BODY_BYTES: Final = 64 * 1024
"""Bytes of a body that is read before its key's limits are checked."""


class Downstream(Protocol):
    """The client's side of a request."""

    @property
    def is_gone(self) -> bool:
        """Whether the client has left; anything sent then is dropped."""
        ...

    @property
    def has_started(self) -> bool:
        """Whether the status was sent; from then on errors are events in the stream."""
        ...

    @property
    def announced(self) -> int | None:
        """The Content-Length of the request; None without one."""
        ...

    async def is_at_hand(self) -> bool:
        """Return whether the body is small (`SMALL_BODY_BYTES`) and can be read at once."""
        ...

    async def body(self, key_id: str = "") -> RequestBody:
        """Return the whole request body, which counts toward the memory of `key_id`.

        Raises BadRequest, BodyTooLarge, RequestTimeout, LimitReached, Unavailable.
        """
        ...

    async def next_chunk(self) -> bytes:
        """Return the next chunk of a body that is passed on, b"" at its end; replaces `body`.

        Raises RequestTimeout.
        """
        ...

    async def start(self, status: int, headers: Headers, *, tells_errors: bool = True) -> None:
        """Send the head of an answer whose body follows in chunks.

        Args:
            status: its status.
            headers: its headers.
            tells_errors: whether the answer can hold an error event.

        """
        ...

    async def send(self, data: bytes) -> None:
        """Send a chunk of a streamed answer; waits for a client that reads slowly."""
        ...

    async def end(self, data: bytes = b"") -> None:
        """End a streamed answer with its last chunk; without this call clients see it cut."""
        ...

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        ...


@attrs.define
class Ask:
    """One request, before it is known whether it may be served."""

    request_id: str
    endpoint: Endpoint
    credential: str | None = attrs.field(repr=False)
    headers: Headers = attrs.field(repr=False)
    client: str
    arrived: float
    """Seconds on the event loop's clock."""
    downstream: Downstream
    parameter: str = ""
    """The path segment that the endpoint takes, if any."""
    query: str = ""
    """The part behind the question mark; Ollama's own routes use none."""
    backend_overrides: tuple[str, ...] = ()
    """The backends that the request names; more than one is an error."""
    caller: Principal | None = None
    """The key of a request that has no record; None until it is known."""
    record: AuditRecord | None = None

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
        """Whether its body, not yet read, may turn out to only load a model."""
        announced = self.downstream.announced
        return self.endpoint.loads and (announced is None or announced <= SMALL_BODY_BYTES)

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self.downstream.is_gone
