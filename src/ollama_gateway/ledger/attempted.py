"""An attempt, as the audit record of its request has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ollama_gateway.ledger.fields import FLAG, MILLISECONDS, TEXT, stored, stored_fields
from ollama_gateway.reasons import AnyReason


@attrs.define
class Attempt:
    """One backend asked for one request; times in seconds after the request arrived."""

    backend: str = attrs.field(metadata=stored(TEXT))
    started: float = attrs.field(metadata=stored(MILLISECONDS, "started_ms"))
    is_hedge: bool = attrs.field(default=False, metadata=stored(FLAG, "hedge"))
    """Whether it began while another attempt was running."""
    first_chunk: float | None = attrs.field(
        default=None, metadata=stored(MILLISECONDS, "first_chunk_ms")
    )
    reason: AnyReason | None = attrs.field(default=None, metadata=stored(TEXT))
    """Why it failed; None while it runs and when it answered."""
    model: str | None = attrs.field(default=None, metadata=stored(TEXT))
    """The model that was asked, if the request named an alias."""
    ended: float | None = attrs.field(default=None, metadata=stored(MILLISECONDS, "ended_ms"))
    """When it ended without being the answer; None while it runs and if it is the answer, which
    ends with the request."""
    span_id: str | None = None
    """Of its span, if the request has a trace."""
    pace: float = 0.0
    """Tokens a second that the backend is known to write before it sends anything."""

    def answered(self, now: float, attempts: Sequence[Attempt]) -> None:
        """Note its first chunk, which came too late if another of the attempts has answered."""
        if any(one.first_chunk is not None and one.ended is None for one in attempts):
            self.ended = now
        self.first_chunk = now


ATTEMPT_FIELDS: Final = stored_fields(Attempt)
