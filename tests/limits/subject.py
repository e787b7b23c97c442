"""Both stores behind one interface, at a time that tests set: the suites run over each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import attrs
import redis

from ollama_gateway.limits.account import Account
from ollama_gateway.limits.calendar import Moment, moment
from ollama_gateway.limits.forgiven import Period
from ollama_gateway.limits.quota import (
    Grant,
    KeyUsage,
    LimitName,
    LimitRefusal,
    Renewal,
    Reservation,
    ReservationRequest,
)
from ollama_gateway.limits.redis.forgiving import Forgive
from ollama_gateway.limits.redis.operations import (
    LAYOUT,
    Operation,
    ReadUsage,
    Renew,
    Reserve,
    Settle,
)
from ollama_gateway.limits.redis.scripts import RedisScripts
from tests.support.patience import PATIENCE

KEY = "k"
LEASE_SECONDS = 30.0
START = datetime(2026, 11, 30, 22, tzinfo=UTC)
"""Two hours before a day and a month end."""
TODAY, THIS_MONTH = 20787, 12 * 2026 + 10


def granted(outcome: Grant | LimitRefusal | None) -> Grant:
    """Assert that it is a grant."""
    assert isinstance(outcome, Grant)
    return outcome


def refused(outcome: Grant | LimitRefusal | None) -> LimitRefusal:
    """Assert that it is a refusal."""
    assert isinstance(outcome, LimitRefusal)
    return outcome


class Subject(Protocol):
    """A store of limits, driven one step at a time.

    Attributes:
        late: most seconds by which the store's clock was ahead of the time that was set.

    """

    late: float

    def reserve(self, request: ReservationRequest) -> Grant | LimitRefusal | None:
        """Admit or refuse; None if the request ended already."""

    def settle(self, reservation: Reservation, used: int) -> None:
        """End a reservation."""

    def renew(self, *renewals: Renewal) -> None:
        """Renew reservations."""

    def forgive(self, key_id: str, *names: LimitName) -> dict[Period, int]:
        """Set usage back; return the tokens taken off so far, of the day and the month."""

    def usage(self, key_id: str) -> KeyUsage:
        """Return the use of a key."""

    def spent(self, key_id: str) -> dict[int, int]:
        """Tokens spent, by day."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def now(self) -> datetime:
        """The store's time."""

    def reset(self) -> None:
        """Empty the store, and set the time to the start."""


@attrs.define
class InMemory:
    """The store of one process."""

    passed: float = 0.0
    late: float = 0.0
    accounts: dict[str, Account] = attrs.field(factory=dict)
    taken: Counter[Period] = attrs.field(factory=Counter)

    def account(self, key_id: str) -> Account:
        """Return a key's account."""
        return self.accounts.setdefault(key_id, Account(LEASE_SECONDS))

    def moment(self) -> Moment:
        """Return the present moment."""
        return moment(self.passed, self.now())

    def now(self) -> datetime:
        """The time that is set."""
        return START + timedelta(seconds=self.passed)

    def reserve(self, request: ReservationRequest) -> Grant | LimitRefusal | None:
        """See `Account`."""
        return self.account(request.key_id).reserve(request, self.moment())

    def settle(self, reservation: Reservation, used: int) -> None:
        """See `Account`."""
        self.account(reservation.key_id).settle(reservation, used, self.moment())

    def renew(self, *renewals: Renewal) -> None:
        """See `Account`."""
        for renewal in renewals:
            self.account(renewal.reservation.key_id).renew(renewal, self.moment())

    def forgive(self, key_id: str, *names: LimitName) -> dict[Period, int]:
        """See `Account`."""
        self.taken.update(self.account(key_id).forgive(names, self.moment()))
        now = self.moment()
        periods: list[Period] = [("day", now.day), ("month", now.month)]
        return {period: self.taken[period] for period in periods}

    def usage(self, key_id: str) -> KeyUsage:
        """See `Account`."""
        return self.account(key_id).usage(self.moment())

    def spent(self, key_id: str) -> dict[int, int]:
        """Return the tokens spent of an account."""
        found = self.account(key_id).spent
        return {period: tokens for (name, period), tokens in found.items() if name == "day"}

    def sleep(self, seconds: float) -> None:
        """Set the time."""
        self.passed += seconds

    def reset(self) -> None:
        """Start with a new store."""
        self.accounts, self.passed, self.taken = {}, 0.0, Counter()


@attrs.define
class InRedis:
    """The shared store: the scripts in a real Redis, whose clock is moved by their offset."""

    url: str
    scripts: RedisScripts
    passed: float = 0.0
    late: float = 0.0

    def ask(self, operation: Operation) -> Any:
        """Run one operation alone, at the time that is set: both clocks are this machine's."""
        self.scripts.offset = self.now().timestamp() - time.time()
        batch = self.scripts.run([operation])
        self.late = max(self.late, batch.time - self.now().timestamp())
        (outcome,) = batch.outcomes
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def now(self) -> datetime:
        """The time that is set."""
        return START + timedelta(seconds=self.passed)

    def reserve(self, request: ReservationRequest) -> Grant | LimitRefusal | None:
        """See reserve.lua."""
        outcome: Grant | LimitRefusal | None = self.ask(Reserve(request))
        return outcome

    def settle(self, reservation: Reservation, used: int) -> None:
        """See settle.lua."""
        self.ask(Settle(reservation, used))

    def renew(self, *renewals: Renewal) -> None:
        """See renew.lua."""
        for key_id in {renewal.reservation.key_id for renewal in renewals}:
            self.ask(Renew(key_id, tuple(r for r in renewals if r.reservation.key_id == key_id)))

    def forgive(self, key_id: str, *names: LimitName) -> dict[Period, int]:
        """See forgive.lua."""
        totals: dict[Period, int] = self.ask(Forgive(key_id, "j", frozenset(names), {}))
        return totals

    def usage(self, key_id: str) -> KeyUsage:
        """See usage.lua."""
        usage: KeyUsage = self.ask(ReadUsage(key_id))
        return usage

    def spent(self, key_id: str) -> dict[int, int]:
        """Return the tokens spent that Redis has."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            fields: Any = client.hgetall(f"{LAYOUT}:{{{key_id}}}:budget")
        parts = {tuple(field.split(":")): int(tokens) for field, tokens in fields.items()}
        return {
            int(part[1]): tokens
            for part, tokens in parts.items()
            if part[0] == "day" and part[2] == "spent"
        }

    def sleep(self, seconds: float) -> None:
        """Set the time."""
        self.passed += seconds

    def reset(self) -> None:
        """Empty Redis; the scripts stay loaded."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
        self.passed = 0.0


@contextmanager
def in_redis(url: str) -> Iterator[InRedis]:
    """Open an empty store; the server is flushed first."""
    scripts = RedisScripts(url, lease=LEASE_SECONDS, timeout=PATIENCE)
    try:
        found = InRedis(url, scripts)
        found.reset()
        yield found
    finally:
        scripts.close()
