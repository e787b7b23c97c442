"""Renews all open reservations in a shared store once a second, with the tokens used so far.

So the places of a dead gateway are free when its leases end, and its requests are charged as in the
last renewal. The usage journal notes the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio
import attrs

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.charges import Charge
from ollama_gateway.limits.quota import QuotaStore, Renewal, Reservation
from ollama_gateway.limits.usage_journal import UsageJournal
from ollama_gateway.log import get_logger

HEARTBEAT_SECONDS: Final = 1.0
"""Seconds between two renewals."""
CHECK_SECONDS: Final = 0.2
"""Seconds between two checks whether the store fails, and between two tries while it does."""

log = get_logger("limits")


@attrs.define(eq=False)
class Heartbeat:
    """Renews open reservations until it is cancelled.

    Args:
        store: shared with other processes.
        usage_journal: notes each renewal.
        opened: returns the open reservations and the tokens that each has used so far.

    """

    store: QuotaStore
    usage_journal: UsageJournal
    opened: Callable[[], Sequence[tuple[Reservation, Charge]]]
    is_ready: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    """Set once the store admits."""
    _charges: dict[str, Charge] = attrs.field(factory=dict, init=False)

    async def run(self) -> None:
        """Renew once a second, until cancelled: the task of this service."""
        while True:
            try:
                await self.store.renew(self._renewals)
                self.usage_journal.note_charges(self._charges)
            except Unavailable:
                pass  # the store logs when it begins to fail
            except Exception:
                log.exception("heartbeat crashed")  # the server goes on
                await anyio.sleep(HEARTBEAT_SECONDS)
            if self.store.why_not is None:
                self.is_ready.set()
            await self._wait()

    async def _wait(self) -> None:
        """Wait for the next heartbeat: a second, or less if the store begins to fail."""
        for _ in range(round(HEARTBEAT_SECONDS / CHECK_SECONDS)):
            await anyio.sleep(CHECK_SECONDS)
            if self.store.why_not is not None:
                return

    def _renewals(self) -> Sequence[Renewal]:
        opened = self.opened()
        self._charges = {reservation.request_id: charge for reservation, charge in opened}
        return [Renewal(reservation, sum(charge)) for reservation, charge in opened]
