"""What a limit is, what is asked of a store of limits, and what it answers.

A request is admitted by one reservation: its place in the rate's log, its place among the
requests at once, and its tokens of the day and the month, all in one step or none. Where its body
is still to come nobody knows the tokens, so it takes two such steps under the same id: its places
by a wish for no tokens, then, `has_places`, its tokens. Settling replaces the tokens reserved by
those used and gives the place back.

The life of a reservation, by its request's id:

                             reserve (tokens)
                             │  ▲
                             ▼  │
    (unknown) ── reserve ──► open ── settle ──► settled
        │                    │  ▲                  ▲
        │            lease ends  renew             │
        │                    ▼  │                  │
        │                   expired ── settle ─────┤
        └─────────── settle (a tombstone) ─────────┘

An expired reservation holds no place and counts what was last told of it; it may come back, by a
renewal or by its tokens, or be settled by the real figure. Tokens are added once, and never to what
is not known; a renewal that does not know of them yet takes none away. From settled there is no
way: to settle again changes nothing, and what was settled before it was reserved is never admitted.
(Nobody reserves again after an answer, so one that was settled as usual needs no mark.) A store
that lost everything is told of open reservations by `renew`.

A budget belongs to the UTC day and month in which its tokens were reserved, whenever they are
settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

import attrs

LEASE_SECONDS: Final = 30.0
"""Seconds without a renewal after which a reservation has expired."""
WINDOW_SECONDS: Final = 60.0
"""Seconds: at most so many admissions in any span of this length."""
REMEMBERED_SECONDS: Final = 3600.0
"""Seconds for which what ended is remembered, so that what comes late changes nothing."""

MAX_TOKENS: Final = 2**53 - 1
"""Tokens that are counted, at most: beyond it Lua, in which Redis counts, is no longer exact."""

LimitName = Literal["rate", "concurrency", "day", "month"]


class OwnLimits(Protocol):
    """The limits of a key as it sets them; None is the default's, 0 is none."""

    @property
    def requests_per_minute(self) -> int | None:
        """Admissions in 60 s."""
        ...

    @property
    def concurrent_requests(self) -> int | None:
        """Requests at once."""
        ...

    @property
    def tokens_per_day(self) -> int | None:
        """Tokens in a day, UTC."""
        ...

    @property
    def tokens_per_month(self) -> int | None:
        """Tokens in a month, UTC."""
        ...


@attrs.frozen
class Quota:
    """The limits of one key; 0 is none."""

    requests_per_minute: int = 0
    concurrent_requests: int = 0
    tokens_per_day: int = 0
    tokens_per_month: int = 0

    @classmethod
    def of(cls, own: OwnLimits, defaults: Quota) -> Quota:
        """The limits of a key, with the defaults where it sets none."""
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
        """The same for what costs no tokens."""
        return Quota(self.requests_per_minute, self.concurrent_requests)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited, so that no store needs to be asked."""
        return self == _NOTHING

    @property
    def has_budget(self) -> bool:
        """Whether tokens are limited."""
        return bool(self.tokens_per_day or self.tokens_per_month)


_NOTHING: Final = Quota()


@attrs.frozen
class ReservationRequest:
    """What a request asks for; tokens are upper bounds."""

    request_id: str
    key_id: str
    quota: Quota
    prompt: int = 0
    """Tokens of the prompt, at most."""
    output: int = 0
    """Tokens of the answer, at most."""
    min_output: int = 0
    """Where the budget has no room for `generation`, it may shrink to this."""
    has_places: bool = False
    """Whether an earlier wish has reserved rate and concurrency, so that this adds tokens alone."""


@attrs.frozen
class Reservation:
    """What a store holds for a request; whoever settles or renews hands it back."""

    request_id: str
    key_id: str
    tokens: int
    """Reserved: the prompt's bound and the generation's."""
    day: int
    """Days since 1970-01-01, UTC."""
    month: int
    """Months since year 0: `12 * year + month - 1`, UTC."""


@attrs.frozen
class LimitStatus:
    """One limit at one moment."""

    limit: int
    used: int
    reset: float
    """Seconds until it is wholly free again, if nothing more is asked of it; for concurrency 0."""

    @property
    def left(self) -> int:
        """What may still be asked for; a limit that was lowered can have less than nothing."""
        return max(0, self.limit - self.used)


LimitStatuses = Mapping[LimitName, LimitStatus]
"""The limits that are set, by name."""


@attrs.frozen
class KeyUsage:
    """What a key has used at one moment; spans are seconds."""

    admissions: int
    """In the last 60 s, where they are limited."""
    window_ends: float
    """Until the last of them leaves the window."""
    open: int
    """Requests at once."""
    day: int
    """Tokens reserved and spent today, where the key has a budget."""
    month: int
    day_ends: float
    month_ends: float

    def statuses(self, quota: Quota) -> LimitStatuses:
        """How the limits of a quota stand."""
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
    """Admitted."""

    reservation: Reservation
    output: int
    """Tokens that the answer may have: as wished, or less."""
    usage: KeyUsage
    """With this request in it."""


@attrs.frozen
class LimitRefusal:
    """Not admitted, and nothing was changed."""

    limit: LimitName
    retry_after: float
    """Seconds until another try can succeed, as far as can be known."""
    usage: KeyUsage


@attrs.frozen
class Renewal:
    """An open reservation, and the tokens it has used so far."""

    reservation: Reservation
    used: int


class QuotaStore(Protocol):
    """Where the limits are counted: in this process, or in Redis for many."""

    async def reserve(self, request: ReservationRequest) -> Grant | LimitRefusal:
        """Admit a request or not; raises Unavailable within 250 ms when that cannot be said."""
        ...

    def settle(self, reservation: Reservation, used: int) -> None:
        """End a reservation at `used` tokens; takes effect before any later `reserve` from here."""
        ...

    async def renew(self, read: Callable[[], Sequence[Renewal]]) -> None:
        """Say what is open in this process, which `read` tells; raises Unavailable."""
        ...

    async def usage(self, key_id: str) -> KeyUsage:
        """What a key has used; raises Unavailable."""
        ...

    @property
    def name(self) -> str:
        """Which one it is, for the operator: `memory` or `redis`."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes count in it, so that it has to be told what is open here."""
        ...

    @property
    def settlements_waiting(self) -> int:
        """Settlements that are not confirmed yet."""
        ...

    @property
    def why_not(self) -> str | None:
        """What keeps it from admitting anything now, for the operator; None when nothing does."""
        ...


def clamp_tokens(tokens: int) -> int:
    """The same number of tokens, as far as it is counted."""
    return max(0, min(tokens, MAX_TOKENS))
