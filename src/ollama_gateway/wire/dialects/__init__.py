"""The APIs that Ollama speaks, behind one interface; one file for each.

A dialect holds no state. It reads a backend's frames (is this an error, the end, a report of
usage), asks for usage where a stream does not report it unasked, and writes the gateway's own
errors so that the clients of its API raise them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.large import RequestBody

Shape = Mapping[str, str]
"""Members of an answer, and how their JSON begins: `{`, `"`, `[`, or `[` and how its first element
begins; 9 stands for a number."""


@attrs.frozen
class ReportedUsage:
    """Tokens that a backend reported; at least one of the two counts is there."""

    prompt: int | None
    """Tokens of the prompt, cached ones included; None if not reported."""
    completion: int | None
    """Tokens of the answer; None if not reported."""
    seconds: float | None = None
    """Seconds that the backend took to write the answer; None if not reported."""


@attrs.frozen
class Reading:
    """The meaning of a frame."""

    error: str | None = None
    """The backend's error text, if the frame is an error."""
    is_last: bool = False
    """The frame is the dialect's end marker; nothing else makes a stream complete."""
    usage: ReportedUsage | None = None
    is_garbled: bool = False
    """The frame does not belong to this dialect."""


ORDINARY: Final = Reading()
"""Neither an error nor the end, no usage: nearly every frame of a stream."""


class Dialect(Protocol):
    """One API of Ollama's."""

    @property
    def name(self) -> str:
        """The dialect's name in logs and metrics."""
        ...

    @property
    def relevant_keys(self) -> frozenset[str]:
        """The top-level keys of a document that `interpret` and `interpret_body` look at."""
        ...

    @property
    def error_ends_stream(self) -> bool:
        """Whether the error event is the dialect's own end of a failed stream."""
        ...

    def begins(self, document: dict[str, object], shape: Shape) -> bool:
        """Return True if a frame can be the first of a good stream.

        Args:
            document: the frame's document.
            shape: members of which a good answer has at least one.

        """
        ...

    def is_answer(self, document: dict[str, object], shape: Shape) -> bool:
        """Return True if a document without an error is a good whole answer.

        Args:
            document: the answer's; of a long one, the `sketch` of its outline.
            shape: members of which a good answer has at least one.

        """
        ...

    def read_frame(self, frame: bytes) -> Reading:
        """Read a whole frame of a stream: `recognize` it, else `interpret` the document in it."""
        ...

    def recognize(self, frame: bytes) -> Reading | None:
        """Return the meaning of a frame that can be recognized without parsing; else None."""
        ...

    def data_of(self, frame: bytes) -> bytes:
        """Return the JSON document in a frame."""
        ...

    def interpret(self, document: dict[str, object]) -> Reading:
        """Return the meaning of a frame's document; it may hold `relevant_keys` only."""
        ...

    def read_body(self, body: bytes) -> Reading:
        """Read a whole JSON answer."""
        ...

    def interpret_body(self, document: dict[str, object]) -> Reading:
        """Return the meaning of a whole answer's document; it may hold `relevant_keys` only."""
        ...

    def text_size(self, frame: bytes) -> int:
        """Count the bytes of the model's text in a frame or a body, as JSON writes it."""
        ...

    def stream_has_usage(self, request: dict[str, object]) -> bool:
        """Return whether the answer's stream reports usage without the gateway's asking.

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
        """Return the gateway's error as a JSON body on one line."""
        ...

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the gateway's error as a frame within a stream, on which clients raise."""
        ...
