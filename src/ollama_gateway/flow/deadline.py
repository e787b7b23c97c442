"""A deadline for a part of a request's path, and the deadlines that the settings give."""

from __future__ import annotations

import math
from types import TracebackType

import attrs
import trio

from ollama_gateway.errors import UpstreamTimeout
from ollama_gateway.reasons import Reason


@attrs.frozen
class Deadlines:
    """The settings of `[race]`, in seconds."""

    queue: float
    first_chunk: float
    idle: float
    total: float
    ping: float = math.inf
    """Silence before the first chunk, until a stream of events gets a comment."""


class Deadline:
    """A block that ends at a moment of the event loop's clock, with UpstreamTimeout."""

    def __init__(
        self,
        moment: float,
        message: str = "the answer took too long",
        reason: Reason = Reason.TOTAL_TIMEOUT,
    ) -> None:
        self._scope = trio.CancelScope(deadline=moment)
        self._message, self._reason = message, reason

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise UpstreamTimeout(self._message, reason=self._reason)
