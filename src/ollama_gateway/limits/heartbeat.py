"""Tells a shared store once a second what is open here and how far it has come.

So what a dead gateway held is free when its leases end, and is charged as it was told last; the
record of spending notes that too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio
import attrs

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.charges import Charge
from ollama_gateway.limits.quota import QuotaStore, Renewal, Reservation
from ollama_gateway.limits.spending import Spending
from ollama_gateway.log import get_logger

HEARTBEAT_SECONDS: Final = 1.0
"""Seconds between two renewals."""
CHECK_SECONDS: Final = 0.2
"""Seconds between two looks at whether the store fails, and two tries while it does."""

log = get_logger("limits")


@attrs.define(eq=False)
class Heartbeat:
    """Renews what is open, for ever.

    Args:
        store: shared with other processes.
        spending: the record that notes what the store was told.
        opened: what is open, and the tokens that each has used so far.

    """

    store: QuotaStore
    spending: Spending
    opened: Callable[[], Sequence[tuple[Reservation, Charge]]]
    is_ready: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    """Set once the store admits."""
    _told: dict[str, Charge] = attrs.field(factory=dict, init=False)

    async def run(self) -> None:
        """The keeper's task."""
        while True:
            try:
                await self.store.renew(self._renewals)
                self.spending.tell(self._told)
            except Unavailable:
                pass  # the store has said so itself, at its turn
            except Exception:
                log.exception("heartbeat crashed")  # as with a watcher, the server goes on
                await anyio.sleep(HEARTBEAT_SECONDS)
            if self.store.why_not is None:
                self.is_ready.set()
            await self._wait()

    async def _wait(self) -> None:
        """Wait for the next heartbeat: a second, or less where the store begins to fail."""
        for _ in range(round(HEARTBEAT_SECONDS / CHECK_SECONDS)):
            await anyio.sleep(CHECK_SECONDS)
            if self.store.why_not is not None:
                return

    def _renewals(self) -> Sequence[Renewal]:
        opened = self.opened()
        self._told = {reservation.request_id: charge for reservation, charge in opened}
        return [Renewal(reservation, sum(charge)) for reservation, charge in opened]
