"""What is asked of Redis, as values: each is one call of a Lua script, one atomic step there.

An operation knows its script (`lua/<name>.lua`, where its arguments and answers are written down),
and puts what it says into words and reads what comes back. Nothing here does I/O.

All keys of one API key carry its id in braces, which puts them in one hash slot of a cluster.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

import attrs

from ollama_gateway.limits.quota import (
    Grant,
    Refusal,
    Renewal,
    Reservation,
    ReservationRequest,
    Usage,
    bounded,
)

LAYOUT: Final = "ollama-gateway:1"
"""What every name begins with; the number changes when the layout does."""
EPOCH: Final = f"{LAYOUT}:{{epoch}}"
GIVEN: Final = f"{LAYOUT}:{{epoch}}:given"
"""Hash: which record of spending has been added in which epoch."""
FILLING: Final = f"{LAYOUT}:{{epoch}}:filling"
"""There while some gateway adds what it has spent; gone by itself half a second after."""
OPENING: Final = 1.5
"""Seconds between the beginning of an epoch and its first admission: every gateway looks at least
once a second, and adds what it holds and has spent."""

_ACCOUNT: Final = ("rate", "leases", "held", "past", "budget")

Call = tuple[Sequence[str], Sequence[Any]]
"""KEYS and ARGV."""


class Operation(Protocol):
    """One call of a script."""

    @property
    def script(self) -> str:
        """The script's name."""
        ...

    def call(self, lease: int, offset: int) -> Call:
        """What to give the script; both arguments are milliseconds."""
        ...

    def read(self, reply: str) -> Any:
        """What the script's answer means."""
        ...


@attrs.frozen
class Reserve:
    """Admit a request or not; None where it came too late."""

    request: ReservationRequest
    not_after: float = 0.0
    """In Redis's time, in seconds, the last moment at which this may have an effect; 0: none."""
    epoch: str | None = None
    """The epoch in which it may be admitted; None: any."""
    script = "reserve"

    def call(self, lease: int, offset: int) -> Call:
        """See reserve.lua."""
        request, quota = self.request, self.request.quota
        limits = (quota.requests_per_minute, quota.concurrent_requests)
        budgets = (quota.tokens_per_day, quota.tokens_per_month)
        tokens = (request.prompt, request.generation, request.least)
        when, has_places = milliseconds(self.not_after), int(request.has_places)
        said = (offset, request.request_id, lease, when, *limits, *budgets, *tokens, has_places)
        return account(request.key_id), said

    def read(self, reply: str) -> Grant | Refusal | None:
        """See reserve.lua."""
        words = reply.split()
        request = self.request
        if words[0] == "granted":
            tokens, day, month = map(int, words[1:4])
            reservation = Reservation(request.request_id, request.key_id, tokens, day, month)
            generation = tokens - request.prompt if tokens else request.generation
            return Grant(reservation, generation, _usage(words[4:]))
        if words[0] == "refused":
            limit: Any = words[1]
            wait = float(words[2]) / 1000
            return Refusal(limit, wait, _usage(words[3:]))
        return None


@attrs.frozen
class Settle:
    """End a reservation; answers the word of settle.lua."""

    reservation: Reservation
    used: int
    is_carried: bool = False
    """Whether it was open when Redis lost everything, and so may not be known there."""
    is_unanswered: bool = False
    """Whether nobody was told that it was admitted, so that it was no admission either."""
    script = "settle"

    def call(self, lease: int, offset: int) -> Call:  # noqa: ARG002
        """See settle.lua."""
        reservation = self.reservation
        said = (offset, reservation.request_id, bounded(self.used), int(self.is_carried))
        rest = (reservation.day, reservation.month, reservation.tokens, int(self.is_unanswered))
        return account(reservation.key_id), (*said, *rest)

    def read(self, reply: str) -> str:
        """See settle.lua."""
        return reply


@attrs.frozen
class Renew:
    """Keep reservations of one key open, or open them again."""

    key_id: str
    renewals: tuple[Renewal, ...]
    not_after: float = 0.0
    settled: Container[str] = frozenset()
    """Ids of what was settled since: a settlement may go first, and must not be undone."""
    script = "renew"

    def call(self, lease: int, offset: int) -> Call:
        """See renew.lua."""
        said: list[Any] = [offset, lease, milliseconds(self.not_after)]
        for renewal in self.renewals:
            reservation = renewal.reservation
            if reservation.request_id not in self.settled:
                used = bounded(renewal.used)
                said += [
                    reservation.request_id,
                    reservation.tokens,
                    reservation.day,
                    reservation.month,
                    used,
                ]
        return account(self.key_id), said

    def read(self, reply: str) -> bool:
        """Whether it was in time."""
        return reply == "renewed"


@attrs.frozen
class Look:
    """What a key has used."""

    key_id: str
    epoch: str | None = None
    """The epoch of which it is asked; None: any."""
    script = "usage"

    def call(self, lease: int, offset: int) -> Call:  # noqa: ARG002
        """See usage.lua."""
        return account(self.key_id), (offset,)

    def read(self, reply: str) -> Usage:
        """See usage.lua."""
        return _usage(reply.split())


@attrs.frozen
class Refill:
    """Add what one record of spending knows of a key."""

    key_id: str
    giver: str
    spent: Mapping[int, int]
    """Tokens by day."""
    script = "refill"

    def call(self, lease: int, offset: int) -> Call:  # noqa: ARG002
        """See refill.lua."""
        pairs = (number for pair in self.spent.items() for number in pair)
        return account(self.key_id), (self.giver, *pairs)

    def read(self, reply: str) -> str:
        """See refill.lua."""
        return reply


@attrs.frozen
class Filling:
    """Say to all that this gateway is still adding what it has spent."""

    script = "filling"

    def call(self, lease: int, offset: int) -> Call:  # noqa: ARG002
        """See filling.lua."""
        return (FILLING,), ()

    def read(self, reply: str) -> str:
        """See filling.lua."""
        return reply


@attrs.frozen
class Epoch:
    """The epoch in force; one is begun where there is none."""

    name: str
    """What a new one is called."""
    script = "epoch"

    def call(self, lease: int, offset: int) -> Call:  # noqa: ARG002
        """See epoch.lua."""
        return (EPOCH,), (offset, self.name, milliseconds(OPENING))

    def read(self, reply: str) -> str:
        """`NAME:OPENS`; raises ValueError for anything else."""
        name, opens = reply.split(":")
        return f"{name}:{int(opens)}"


@attrs.frozen
class Given:
    """Whether a record of spending was added in this epoch; `mark` says that it now is."""

    giver: str
    epoch: str
    mark: bool = False
    script = "given"

    def call(self, lease: int, offset: int) -> Call:  # noqa: ARG002
        """See given.lua."""
        return (GIVEN,), (self.giver, self.epoch, int(self.mark))

    def read(self, reply: str) -> bool:
        """See given.lua."""
        return reply == "given"


@lru_cache(maxsize=10_000)
def account(key_id: str) -> tuple[str, ...]:
    """The names of one API key's keys in Redis, in the order of account.lua."""
    return tuple(f"{LAYOUT}:{{{key_id}}}:{name}" for name in _ACCOUNT)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, as the scripts count."""
    return round(seconds * 1000)


def _usage(words: Sequence[str]) -> Usage:
    admissions, window_ends, opened, day, month, day_ends, month_ends = map(int, words)
    return Usage(
        admissions, window_ends / 1000, opened, day, month, day_ends / 1000, month_ends / 1000
    )
