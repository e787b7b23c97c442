"""The limits of all keys, counted in this process (`account.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.account import Account
from ollama_gateway.limits.calendar import Moment, month_of
from ollama_gateway.limits.forgiven import Forgiven, ForgivenUsage
from ollama_gateway.limits.quota import (
    Grant,
    KeyUsage,
    LimitName,
    LimitRefusal,
    Renewal,
    Reservation,
    ReservationRequest,
)
from ollama_gateway.reasons import Reason


class MemoryQuota:
    """Counts the limits of all keys in this process; see `QuotaStore`. No method waits.

    Args:
        now: returns the present moment.
        spent: tokens spent before a restart, by key and day.
        forgiven: tokens of these that resets took off, by key and period.

    """

    def __init__(
        self,
        now: Callable[[], Moment],
        spent: Mapping[str, Mapping[int, int]] | None = None,
        forgiven: Forgiven | None = None,
    ) -> None:
        self._now = now
        self._accounts: dict[str, Account] = {}
        for key_id, days in (spent or {}).items():
            account = self.account(key_id)
            for day, tokens in days.items():
                account.spent["day", day] += tokens
                account.spent["month", month_of(day)] += tokens
        for key_id, periods in (forgiven or {}).items():
            for period, tokens in periods.items():
                self.account(key_id).spent[period] -= tokens

    def account(self, key_id: str) -> Account:
        """Return the account of a key; make it at its first use."""
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = Account(math.inf)
        return account

    def allow(self, seconds: float) -> None:
        """Do nothing: it answers at once."""

    async def reserve(self, request: ReservationRequest) -> Grant | LimitRefusal:
        """Admit or refuse a request; raises Unavailable if it has ended already."""
        outcome = self.account(request.key_id).reserve(request, self._now())
        if outcome is None:
            raise Unavailable("this request has ended already", reason=Reason.QUOTA_UNAVAILABLE)
        return outcome

    def settle(self, reservation: Reservation, used: int) -> None:
        """End a reservation at `used` tokens."""
        self.account(reservation.key_id).settle(reservation, used, self._now())

    async def renew(self, read: Callable[[], Sequence[Renewal]]) -> None:
        """Do nothing: a reservation here stays open until it is settled."""

    async def usage(self, key_id: str) -> KeyUsage:
        """Return the use of a key."""
        return self._accounts.get(key_id, Account()).usage(self._now())

    async def forgive(
        self, key_id: str, names: Container[LimitName], journal: ForgivenUsage
    ) -> None:
        """Set the usage of a key back to zero."""
        known = journal.forgiven_of(key_id)
        taken = self.account(key_id).forgive(names, self._now())
        journal.forgive(key_id, {one: known.get(one, 0) + n for one, n in taken.items()})

    @property
    def name(self) -> str:
        """Its name for the operator."""
        return "memory"

    @property
    def is_shared(self) -> bool:
        """False: no other process counts in it."""
        return False

    @property
    def settlements_waiting(self) -> int:
        """0: settlements take effect at once."""
        return 0

    @property
    def why_not(self) -> None:
        """None: it can always answer."""
        return None

    @property
    def cause(self) -> None:
        """None: it never fails."""
        return None
