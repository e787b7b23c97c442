"""What differs between the APIs that Ollama speaks: one file each, one interface.

A dialect is stateless. It reads frames of a backend (is it an error, is it the end, what did it
cost) and writes the gateway's own errors so that its clients' parsers raise them.
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.large import RequestBody


@attrs.frozen
class ReportedUsage:
    """Tokens that a backend reported, at least one of the two."""

    prompt: int | None
    """Of the prompt, what was cached of it included; None where it is not told."""
    completion: int | None
    """Of the answer; None where it is not told."""
    seconds: float | None = None
    """How long the answer took to write, as the backend says; None where it does not."""


@attrs.frozen
class Reading:
    """What a frame means to the gateway."""

    error: str | None = None
    """The backend's error text, where the frame is an error."""
    is_last: bool = False
    """The dialect's own terminal marker: nothing but this makes a stream complete."""
    usage: ReportedUsage | None = None
    is_garbled: bool = False
    """Not a frame of this dialect at all."""


ORDINARY: Final = Reading()
"""Nothing special: nearly every frame of a stream."""


class Dialect(Protocol):
    """One API family's shapes."""

    @property
    def name(self) -> str:
        """The word for it in logs and metrics."""
        ...

    @property
    def relevant_keys(self) -> frozenset[str]:
        """The members of a document that mean something."""
        ...

    @property
    def answer_keys(self) -> frozenset[str]:
        """The members of a whole answer of which one at least is in every good one."""
        ...

    def read_frame(self, frame: bytes) -> Reading:
        """What a whole frame of a stream means; see `look`, `data_of` and `mean`."""
        ...

    def recognize(self, frame: bytes) -> Reading | None:
        """The same of a frame that is known by its look."""
        ...

    def data_of(self, frame: bytes) -> bytes:
        """The document in a frame."""
        ...

    def interpret(self, document: dict[str, object]) -> Reading:
        """What the document of a frame means, of which all is there that is told."""
        ...

    def read_body(self, body: bytes) -> Reading:
        """What a whole JSON answer means; it is complete by being whole."""
        ...

    def interpret_body(self, document: dict[str, object]) -> Reading:
        """The same of its document."""
        ...

    def text_size(self, frame: bytes) -> int:
        """Bytes of what the model says in a frame or a body, as JSON writes them."""
        ...

    def stream_has_usage(self, request: dict[str, object]) -> bool:
        """Return whether the stream that answers this request reports usage as it is.

        Args:
            request: the fields of the request's body.

        """
        ...

    def with_usage(self, body: RequestBody) -> RequestBody:
        """Change a request's body so that the stream reports usage."""
        ...

    def without_usage(self, frame: bytes) -> bytes:
        """Remove usage from a frame; empty where the frame held nothing else."""
        ...

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """The gateway's error as a JSON body: one line."""
        ...

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The gateway's error as a frame in the middle of a stream, on which its clients raise."""
        ...
