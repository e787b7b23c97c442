"""The limits of a key, the questions to a store of limits, and its answers.

One reservation admits a request: it takes a place in the rate window, a place among the concurrent
requests, and tokens of the day and the month, all in one step or none. The tokens are unknown until
the body is there, so a body that is still to come needs two steps under one id: the first reserves
the places and no tokens, the second (`has_places`) the tokens. Settling replaces the reserved
tokens by the used ones and gives the place back.

The states of a reservation, by its request's id:

                             reserve (tokens)
                             │  ▲
                             ▼  │
    (unknown) ── reserve ──► open ── settle ──► settled
        │                    │  ▲                  ▲
        │            lease ends  renew             │
        │                    ▼  │                  │
        │                   expired ── settle ─────┤
        └─────────── settle (a tombstone) ─────────┘

An expired reservation holds no place and counts the tokens of its last renewal. A renewal or the
second step may open it again, and settling corrects it to the real figure. Tokens are added once,
and only to a known reservation; a renewal that was composed before they were added takes none away.
Settled is final: settling again changes nothing, and a request that was settled before it was
reserved is never admitted. (A reservation that was settled while open needs no tombstone, because
no request is reserved again after its answer, unless the store was asked twice.) `renew` restores
open reservations in a store that lost everything.

Tokens count for the UTC day and month in which they were reserved, whenever they are settled.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

if TYPE_CHECKING:
    from ollama_gateway.limits.forgiven import ForgivenUsage

LEASE_SECONDS: Final = 30.0
"""Seconds after its last renewal at which a reservation expires."""
WINDOW_SECONDS: Final = 60.0
"""Length of the rate window."""
REMEMBERED_SECONDS: Final = 3600.0
"""Seconds for which expired reservations and tombstones are kept, against late messages."""

MAX_TOKENS: Final = 2**53 - 1
"""The largest count of tokens: the numbers of Lua, in which Redis counts, are exact up to it."""

LimitName = Literal["rate", "concurrency", "day", "month"]
LIMIT_NAMES: Final[tuple[LimitName, ...]] = ("rate", "concurrency", "day", "month")


class OwnLimits(Protocol):
    """The limits that a key sets itself; None: the default applies, 0: no limit."""

    @property
    def requests_per_minute(self) -> int | None:
        """Most admissions in 60 s."""
        ...

    @property
    def concurrent_requests(self) -> int | None:
        """Most requests at once."""
        ...

    @property
    def tokens_per_day(self) -> int | None:
        """Most tokens in a day, UTC."""
        ...

    @property
    def tokens_per_month(self) -> int | None:
        """Most tokens in a month, UTC."""
        ...


@attrs.frozen
class Quota:
    """The limits in force for one key; 0: no limit."""

    requests_per_minute: int = 0
    concurrent_requests: int = 0
    tokens_per_day: int = 0
    tokens_per_month: int = 0

    @classmethod
    def of(cls, own: OwnLimits, defaults: Quota) -> Quota:
        """Take each limit from the key, or from the defaults where the key sets none."""
        rate, at_once = own.requests_per_minute, own.concurrent_requests
        day, month = own.tokens_per_day, own.tokens_per_month
        return cls(
            defaults.requests_per_minute if rate is None else rate,
            defaults.concurrent_requests if at_once is None else at_once,
            defaults.tokens_per_day if day is None else day,
            defaults.tokens_per_month if month is None else month,
        )

    @property
    def without_budget(self) -> Quota:
        """The same limits without budgets, for requests that cost no tokens."""
        return Quota(self.requests_per_minute, self.concurrent_requests)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited; then no store is asked."""
        return self == _NOTHING

    @property
    def has_budget(self) -> bool:
        """Whether tokens are limited."""
        return bool(self.tokens_per_day or self.tokens_per_month)


_NOTHING: Final = Quota()


@attrs.frozen
class ReservationRequest:
    """The places and tokens that a request needs; tokens are upper bounds."""

    request_id: str
    key_id: str
    quota: Quota
    prompt: int = 0
    """Most tokens of the prompt."""
    output: int = 0
    """Most tokens of the answer."""
    min_output: int = 0
    """`output` may shrink to this if the budget has no room for all of it."""
    has_places: bool = False
    """Whether a first step has reserved rate and concurrency, so that this one adds tokens only."""


@attrs.frozen
class Reservation:
    """An admitted request, as the store counts it; `settle` and `renew` take it."""

    request_id: str
    key_id: str
    tokens: int
    """Reserved for the prompt and the answer."""
    day: int
    """Days since 1970-01-01, UTC."""
    month: int
    """Months since year 0: `12 * year + month - 1`, UTC."""


@attrs.frozen
class LimitStatus:
    """Use of one limit at one moment."""

    limit: int
    used: int
    reset: float
    """Seconds until all of it is free again if no request follows; 0 for concurrency."""

    @property
    def left(self) -> int:
        """Admissions, places or tokens left; 0 where a lowered limit is exceeded already."""
        return max(0, self.limit - self.used)


LimitStatuses = Mapping[LimitName, LimitStatus]
"""The status of each limit that is set."""


@attrs.frozen
class KeyUsage:
    """Use of one key at one moment; durations are seconds."""

    admissions: int
    """In the last 60 s, if the key has a rate limit."""
    window_ends: float
    """Until the newest of them leaves the window."""
    open: int
    """Requests that hold a place."""
    day: int
    """Tokens reserved and spent today, if the key has a budget."""
    month: int
    """Tokens reserved and spent this month, if the key has a budget."""
    day_ends: float
    month_ends: float

    def statuses(self, quota: Quota) -> LimitStatuses:
        """Return the status of each limit of a quota."""
        found: dict[LimitName, LimitStatus] = {}
        if limit := quota.requests_per_minute:
            found["rate"] = LimitStatus(limit, self.admissions, self.window_ends)
        if limit := quota.concurrent_requests:
            found["concurrency"] = LimitStatus(limit, self.open, 0.0)
        if limit := quota.tokens_per_day:
            found["day"] = LimitStatus(limit, self.day, self.day_ends)
        if limit := quota.tokens_per_month:
            found["month"] = LimitStatus(limit, self.month, self.month_ends)
        return found


@attrs.frozen
class Grant:
    """A request was admitted."""

    reservation: Reservation
    output: int
    """Tokens that the answer may have: as many as requested, or fewer."""
    usage: KeyUsage
    """With this request counted."""


@attrs.frozen
class LimitRefusal:
    """A request was refused, and nothing was changed."""

    limit: LimitName
    retry_after: float
    """Seconds until another try may succeed."""
    usage: KeyUsage


@attrs.frozen
class Renewal:
    """An open reservation, and the tokens it has used so far."""

    reservation: Reservation
    used: int


class QuotaStore(Protocol):
    """Counts the limits: in this process, or in Redis for several gateways."""

    async def reserve(self, request: ReservationRequest) -> Grant | LimitRefusal:
        """Admit or refuse a request; raises Unavailable in time if the store cannot say.

        That is within `redis.timeout`, or twice as much if the store has answered within a second.
        """
        ...

    def settle(self, reservation: Reservation, used: int) -> None:
        """End a reservation at `used` tokens, before any later `reserve` of this process."""
        ...

    async def renew(self, read: Callable[[], Sequence[Renewal]]) -> None:
        """Renew the open reservations of this process, which `read` returns; raises Unavailable."""
        ...

    async def usage(self, key_id: str) -> KeyUsage:
        """Return the use of a key; raises Unavailable."""
        ...

    async def forgive(
        self, key_id: str, names: Container[LimitName], journal: ForgivenUsage
    ) -> None:
        """Set what a key has used of limits back to zero, and let the journal keep how much it was.

        Open requests stay, and are charged at their end. Raises Unavailable; then some of it may
        have happened, and may be repeated.
        """
        ...

    def allow(self, seconds: float) -> None:
        """Give the store this long for an answer from now on."""
        ...

    @property
    def name(self) -> str:
        """`memory` or `redis`, for the operator."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes count in it, so that open reservations need renewal."""
        ...

    @property
    def settlements_waiting(self) -> int:
        """Settlements that the store has not confirmed."""
        ...

    @property
    def why_not(self) -> str | None:
        """Why it cannot admit any request now, for the operator; None if it can."""
        ...

    @property
    def cause(self) -> str | None:
        """The fixed word for why it fails; None if it works."""
        ...


def clamp_tokens(tokens: int) -> int:
    """Limit a count of tokens to the range from 0 to `MAX_TOKENS`."""
    return max(0, min(tokens, MAX_TOKENS))
