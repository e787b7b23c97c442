"""Log refused requests at a bounded rate: a client needs no valid key to cause them."""

from __future__ import annotations

from typing import Final

import anyio
import attrs

from ollama_gateway.errors import GatewayError, TooManyConnections
from ollama_gateway.log import get_logger

LINES_A_SECOND: Final = 10

log = get_logger("refused")


@attrs.define
class RefusalLog:
    """Logs at most `LINES_A_SECOND`; the next line says how many lines were left out."""

    _second: int = attrs.field(default=-1, init=False)
    _lines: int = attrs.field(default=0, init=False)
    _left_out: int = attrs.field(default=0, init=False)

    def note(self, error: GatewayError, client: str, request_id: str) -> None:
        """Log one refusal, or count it as left out."""
        second = int(anyio.current_time())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= LINES_A_SECOND:
            self._left_out += 1
            return
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        details = {"setting": error.setting} if isinstance(error, TooManyConnections) else {}
        log.info(
            "refused",
            request_id=request_id,
            client=client,
            status=error.status,
            reason=error.reason,
            left_out=left_out,
            **details,
        )
