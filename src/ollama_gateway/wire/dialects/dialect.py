"""One API of Ollama's, as the rest of the gateway uses it.

A dialect holds no state. It reads a backend's frames (is this an error, the end, a report of
usage), asks for usage where a stream does not report it unasked, and writes the gateway's own
errors so that the clients of its API raise them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.dialects.reading import (
    GARBLED,
    MAX_PARSED_FRAME,
    Reading,
    Shape,
    data_of,
    has_shape,
    json_object,
    long_data,
)
from ollama_gateway.wire.large import RequestBody


class Dialect(ABC):
    """One API of Ollama's; where a method is not abstract, most dialects share it."""

    name: str
    """The dialect's name in logs and metrics."""
    relevant_keys: ClassVar[frozenset[str]]
    """The top-level keys of a document that `interpret` and `interpret_body` look at."""
    holds_name: ClassVar[str | None] = None
    """The member of some events whose object names the model; others name it outermost."""
    error_ends_stream: ClassVar[bool] = False
    """Whether the error event is the dialect's own end of a failed stream."""
    has_comments: ClassVar[bool] = False
    """Whether its streams can hold comments, which clients skip."""

    def begins(self, document: dict[str, object], shape: Shape) -> bool:
        """Return True if a frame can be the first of a good stream.

        Args:
            document: the frame's document.
            shape: members of which a good answer has at least one.

        """
        return self.is_answer(document, shape)

    def is_answer(self, document: dict[str, object], shape: Shape) -> bool:
        """Return True if a document without an error is a good whole answer.

        Args:
            document: the answer's; of a long one, the `sketch` of its outline.
            shape: members of which a good answer has at least one.

        """
        return has_shape(document, shape)

    def read_frame(self, frame: bytes) -> Reading:
        """Read a whole frame of a stream: `recognize` it, else `interpret` the document in it."""
        known = self.recognize(frame)
        if known is not None:
            return known
        document = json_object(self.data_of(frame))
        return GARBLED if document is None else self.interpret(document)

    @abstractmethod
    def recognize(self, frame: bytes) -> Reading | None:
        """Return the meaning of a frame that can be recognized without parsing; else None."""

    def data_of(self, frame: bytes) -> bytes:
        """Return the JSON document in a frame."""
        return frame

    @abstractmethod
    def interpret(self, document: dict[str, object]) -> Reading:
        """Return the meaning of a frame's document; it may hold `relevant_keys` only."""

    def read_body(self, body: bytes) -> Reading:
        """Read a whole JSON answer."""
        document = json_object(body)
        return GARBLED if document is None else self.interpret_body(document)

    @abstractmethod
    def interpret_body(self, document: dict[str, object]) -> Reading:
        """Return the meaning of a whole answer's document; it may hold `relevant_keys` only."""

    @abstractmethod
    def text_size(self, frame: bytes) -> int:
        """Count the bytes of the model's text in a frame or a body, as JSON writes it."""

    def answer_id(self, begun: bytes) -> str | None:  # noqa: ARG002
        """Return the id that a later request may name to continue an answer; None if there is none.

        Args:
            begun: the first frame of a stream, or the beginning of a whole answer.

        """
        return None

    def stream_has_usage(self, request: dict[str, object]) -> bool:  # noqa: ARG002
        """Return whether the answer's stream reports usage without the gateway's asking.

        Args:
            request: the fields of the request's body.

        """
        return True

    def with_usage(self, body: RequestBody) -> RequestBody:
        """Change a request's body so that the stream reports usage."""
        return body

    def without_usage(self, frame: bytes) -> bytes:
        """Remove usage from a frame; empty where the frame held nothing else."""
        return frame

    @abstractmethod
    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """Return the gateway's error as a JSON body on one line."""

    @abstractmethod
    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the gateway's error as a frame within a stream, on which clients raise."""


class EventDialect(Dialect):
    """A dialect of server-sent events."""

    has_comments: ClassVar[bool] = True

    def data_of(self, frame: bytes) -> bytes:
        """Return the document in an event."""
        return data_of(frame) if len(frame) <= MAX_PARSED_FRAME else long_data(frame)
