"""The limits of one key, counted in this process: plain functions, so each is a transaction.

This is also the readable form of the Lua scripts in Redis; one suite of tests holds both to the
same answers. In Redis a lease ends because its gateway may be gone. `MemoryQuota` lets no lease
end: its process alone holds the places, and still holds them after it was stopped for a minute.

An account is the whole state of a key. Its dicts are ordered by time: renewed entries go to the
end, so expired ones stand in front and no search is needed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Container, Mapping
from typing import Final, TypeVar

import attrs

from ollama_gateway.limits.calendar import Moment
from ollama_gateway.limits.forgiven import Period as BudgetPeriod
from ollama_gateway.limits.quota import (
    LEASE_SECONDS,
    REMEMBERED_SECONDS,
    WINDOW_SECONDS,
    Grant,
    KeyUsage,
    LimitName,
    LimitRefusal,
    Quota,
    Renewal,
    Reservation,
    ReservationRequest,
)

RETRY_SECONDS: Final = 1.0
"""Suggested wait for a place, or for tokens that other requests hold; the true wait is unknown."""

MAX_PERIODS: Final = 200
"""Most days and months in an account; two months of use make 64."""

T = TypeVar("T")
Period = tuple[LimitName, int]
"""`("day", 20781)` or `("month", 24322)`."""


@attrs.define
class _Entry:
    """An open or expired reservation."""

    reservation: Reservation
    used: int
    until: float
    """When it expires; once expired, when it is forgotten."""


@attrs.define
class Account:
    """The admissions, reservations and spent tokens of one key."""

    lease: float = LEASE_SECONDS
    admissions: deque[float] = attrs.field(factory=deque)
    open: OrderedDict[str, _Entry] = attrs.field(factory=OrderedDict)
    expired: OrderedDict[str, _Entry] = attrs.field(factory=OrderedDict)
    ended: OrderedDict[str, float] = attrs.field(factory=OrderedDict)
    """Tombstones: requests that may not be reserved any more, and when each is forgotten."""
    reserved: Counter[Period] = attrs.field(factory=Counter)
    spent: Counter[Period] = attrs.field(factory=Counter)

    def reserve(self, request: ReservationRequest, now: Moment) -> Grant | LimitRefusal | None:
        """Admit or refuse a request; None if it has ended already."""
        self._expire(now)
        if request.has_places:
            self._reopen(request.request_id, now)
        found = self.open.get(request.request_id)
        if found is None and (request.has_places or self._has_ended(request.request_id)):
            return None
        if found and (found.reservation.tokens or not request.has_places):
            return self._grant(request, found.reservation, now)  # a repetition: the same answer
        room = self._room(request.quota, now)
        limit = self._reached(request, room)
        if limit is not None:
            wait = self._wait(limit, request, now)
            return LimitRefusal(limit, wait, self._usage(now))
        tokens = min([request.prompt + request.output, *room.values()]) if room else 0
        reservation = Reservation(request.request_id, request.key_id, tokens, now.day, now.month)
        self._enter(reservation, 0, now)
        if request.quota.requests_per_minute and not request.has_places:
            self.admissions.append(now.time)
        return self._grant(request, reservation, now)

    def settle(self, reservation: Reservation, used: int, now: Moment) -> None:
        """End a reservation; an unknown one leaves a tombstone, so that it is never admitted."""
        self._expire(now)
        if found := self.open.pop(reservation.request_id, None):
            self._add(self.reserved, found.reservation, -found.reservation.tokens)
            self._add(self.spent, found.reservation, used)
        elif found := self.expired.pop(reservation.request_id, None):
            self._add(self.spent, found.reservation, used - found.used)
            self.ended[reservation.request_id] = now.time + REMEMBERED_SECONDS
        else:
            self.ended.setdefault(reservation.request_id, now.time + REMEMBERED_SECONDS)

    def renew(self, renewal: Renewal, now: Moment) -> None:
        """Extend the lease of a reservation, or open it again."""
        self._expire(now)
        if renewal.reservation.request_id in self.ended:
            return
        self._reopen(renewal.reservation.request_id, now)
        known = self.open.get(renewal.reservation.request_id)
        # The renewal may have been composed before tokens were added.
        is_behind = known is not None and known.reservation.tokens >= renewal.reservation.tokens
        reservation = known.reservation if known and is_behind else renewal.reservation
        self._enter(reservation, renewal.used, now)

    def usage(self, now: Moment) -> KeyUsage:
        """Return the use of each limit."""
        self._expire(now)
        return self._usage(now)

    def forgive(self, names: Container[LimitName], now: Moment) -> dict[BudgetPeriod, int]:
        """Set usage back to zero; return the tokens taken off the day and the month.

        What has not ended stays: open reservations are charged when they are settled, and expired
        ones keep the charge of their last renewal, which their end may still correct.
        """
        self._expire(now)
        if "rate" in names:
            self.admissions.clear()
        periods: list[BudgetPeriod] = [("day", now.day), ("month", now.month)]
        found = {period: self._ended(period) for period in periods if period[0] in names}
        for period, tokens in found.items():
            self.spent[period] -= tokens
        return found

    def _ended(self, period: BudgetPeriod) -> int:
        """Return the tokens spent by requests that have ended."""
        charged = [one for one in self.expired.values() if one.reservation.tokens]
        held = sum(one.used for one in charged if getattr(one.reservation, period[0]) == period[1])
        return max(0, self.spent[period] - held)

    def _usage(self, now: Moment) -> KeyUsage:
        return KeyUsage(
            len(self.admissions),
            self.admissions[-1] + WINDOW_SECONDS - now.time if self.admissions else 0.0,
            len(self.open),
            self._value(("day", now.day)),
            self._value(("month", now.month)),
            now.day_ends,
            now.month_ends,
        )

    def _grant(self, request: ReservationRequest, reservation: Reservation, now: Moment) -> Grant:
        output = reservation.tokens - request.prompt if reservation.tokens else request.output
        return Grant(reservation, output, self._usage(now))

    def _room(self, quota: Quota, now: Moment) -> dict[LimitName, int]:
        """Return the tokens left in each budget that is set."""
        found: dict[LimitName, int] = {}
        if quota.tokens_per_day:
            found["day"] = quota.tokens_per_day - self._value(("day", now.day))
        if quota.tokens_per_month:
            found["month"] = quota.tokens_per_month - self._value(("month", now.month))
        return found

    def _reached(
        self, request: ReservationRequest, room: Mapping[LimitName, int]
    ) -> LimitName | None:
        """Return the first limit that refuses the request."""
        places = Quota() if request.has_places else request.quota
        if places.requests_per_minute and len(self.admissions) >= places.requests_per_minute:
            return "rate"
        if places.concurrent_requests and len(self.open) >= places.concurrent_requests:
            return "concurrency"
        short: list[LimitName] = [
            n for n, left in room.items() if request.prompt + request.min_output > left
        ]
        return short[-1] if short else None

    def _wait(self, limit: LimitName, request: ReservationRequest, now: Moment) -> float:
        """Return the seconds until another try may succeed."""
        if limit == "rate":
            oldest = self.admissions[len(self.admissions) - request.quota.requests_per_minute]
            return oldest + WINDOW_SECONDS - now.time
        if limit == "concurrency":
            return RETRY_SECONDS
        budget, period, ends = (
            (request.quota.tokens_per_day, now.day, now.day_ends)
            if limit == "day"
            else (request.quota.tokens_per_month, now.month, now.month_ends)
        )
        fits = self.spent[limit, period] + request.prompt + request.min_output <= budget
        return RETRY_SECONDS if fits else ends

    def _value(self, period: Period) -> int:
        return self.reserved[period] + self.spent[period]

    def _has_ended(self, request_id: str) -> bool:
        return request_id in self.expired or request_id in self.ended

    def _reopen(self, request_id: str, now: Moment) -> None:
        """Open an expired reservation again, as it was."""
        if found := self.expired.pop(request_id, None):
            self._add(self.spent, found.reservation, -found.used)
            self._enter(found.reservation, found.used, now)

    def _enter(self, reservation: Reservation, used: int, now: Moment) -> None:
        """Hold a reservation for the length of a lease from now."""
        if found := self.open.pop(reservation.request_id, None):
            self._add(self.reserved, found.reservation, -found.reservation.tokens)
        self.open[reservation.request_id] = _Entry(reservation, used, now.time + self.lease)
        self._add(self.reserved, reservation, reservation.tokens)

    def _add(self, counter: Counter[Period], reservation: Reservation, tokens: int) -> None:
        if reservation.tokens:
            counter["day", reservation.day] += tokens
            counter["month", reservation.month] += tokens

    def _expire(self, now: Moment) -> None:
        """Expire leases, and drop admissions and entries that are too old."""
        while self.admissions and self.admissions[0] <= now.time - WINDOW_SECONDS:
            self.admissions.popleft()
        while self.open and (first := _first(self.open)).until <= now.time:
            del self.open[first.reservation.request_id]
            self._add(self.reserved, first.reservation, -first.reservation.tokens)
            self._add(self.spent, first.reservation, first.used)
            first.until = now.time + REMEMBERED_SECONDS
            self.expired[first.reservation.request_id] = first
        while self.expired and (past := _first(self.expired)).until <= now.time:
            del self.expired[past.reservation.request_id]
        while self.ended and _first(self.ended) <= now.time:
            self.ended.popitem(last=False)
        for counter in (self.reserved, self.spent):
            if len(counter) > MAX_PERIODS:
                _forget(counter)


def _forget(counter: Counter[Period]) -> None:
    """Drop the half that was added first: dates may come from a clock that was wrong."""
    for period in list(counter)[: MAX_PERIODS // 2]:
        del counter[period]


def _first(entries: OrderedDict[str, T]) -> T:
    return next(iter(entries.values()))
