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
    KeyUsage,
    LimitRefusal,
    Renewal,
    Reservation,
    ReservationRequest,
    clamp_tokens,
)

LAYOUT: Final = "ollama-gateway:1"
"""What every name begins with; the number changes when the layout does."""
GENERATION_KEY: Final = f"{LAYOUT}:{{epoch}}"
CONTRIBUTIONS_KEY: Final = f"{LAYOUT}:{{epoch}}:given"
"""Hash: which record of spending has been added in which epoch."""
REBUILD_KEY: Final = f"{LAYOUT}:{{epoch}}:filling"
"""There while some gateway adds what it has spent; gone by itself half a second after."""
OPENING_SECONDS: Final = 1.5
"""Seconds between the beginning of an epoch and its first admission: every gateway looks at least
once a second, and adds what it holds and has spent."""

_ACCOUNT: Final = ("rate", "leases", "held", "past", "budget")

ScriptCall = tuple[Sequence[str], Sequence[Any]]
"""KEYS and ARGV."""


class Operation(Protocol):
    """One call of a script."""

    @property
    def script(self) -> str:
        """The script's name."""
        ...

    def call(self, lease: int, offset: int) -> ScriptCall:
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
    generation: str | None = None
    """The epoch in which it may be admitted; None: any."""
    script = "reserve"

    def call(self, lease: int, offset: int) -> ScriptCall:
        """See reserve.lua."""
        request, quota = self.request, self.request.quota
        limits = (quota.requests_per_minute, quota.concurrent_requests)
        budgets = (quota.tokens_per_day, quota.tokens_per_month)
        tokens = (request.prompt, request.output, request.min_output)
        when, has_places = milliseconds(self.not_after), int(request.has_places)
        arguments = (
            offset,
            request.request_id,
            lease,
            when,
            *limits,
            *budgets,
            *tokens,
            has_places,
        )
        return account(request.key_id), arguments

    def read(self, reply: str) -> Grant | LimitRefusal | None:
        """See reserve.lua."""
        words = reply.split()
        request = self.request
        if words[0] == "granted":
            tokens, day, month = map(int, words[1:4])
            reservation = Reservation(request.request_id, request.key_id, tokens, day, month)
            output = tokens - request.prompt if tokens else request.output
            return Grant(reservation, output, _usage(words[4:]))
        if words[0] == "refused":
            limit: Any = words[1]
            wait = float(words[2]) / 1000
            return LimitRefusal(limit, wait, _usage(words[3:]))
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

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See settle.lua."""
        reservation = self.reservation
        arguments = (offset, reservation.request_id, clamp_tokens(self.used), int(self.is_carried))
        rest = (reservation.day, reservation.month, reservation.tokens, int(self.is_unanswered))
        return account(reservation.key_id), (*arguments, *rest)

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

    def call(self, lease: int, offset: int) -> ScriptCall:
        """See renew.lua."""
        arguments: list[Any] = [offset, lease, milliseconds(self.not_after)]
        for renewal in self.renewals:
            reservation = renewal.reservation
            if reservation.request_id not in self.settled:
                used = clamp_tokens(renewal.used)
                arguments += [
                    reservation.request_id,
                    reservation.tokens,
                    reservation.day,
                    reservation.month,
                    used,
                ]
        return account(self.key_id), arguments

    def read(self, reply: str) -> bool:
        """Whether it was in time."""
        return reply == "renewed"


@attrs.frozen
class ReadUsage:
    """What a key has used."""

    key_id: str
    generation: str | None = None
    """The epoch of which it is asked; None: any."""
    script = "usage"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See usage.lua."""
        return account(self.key_id), (offset,)

    def read(self, reply: str) -> KeyUsage:
        """See usage.lua."""
        return _usage(reply.split())


@attrs.frozen
class Contribute:
    """Add what one record of spending knows of a key."""

    key_id: str
    journal_id: str
    spent: Mapping[int, int]
    """Tokens by day."""
    script = "contribute"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See contribute.lua."""
        pairs = (number for pair in self.spent.items() for number in pair)
        return account(self.key_id), (self.journal_id, *pairs)

    def read(self, reply: str) -> str:
        """See contribute.lua."""
        return reply


@attrs.frozen
class MarkRebuild:
    """Say to all that this gateway is still adding what it has spent."""

    script = "rebuild"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See rebuild.lua."""
        return (REBUILD_KEY,), ()

    def read(self, reply: str) -> str:
        """See rebuild.lua."""
        return reply


@attrs.frozen
class OpenGeneration:
    """The epoch in force; one is begun where there is none."""

    name: str
    """What a new one is called."""
    script = "generation"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See generation.lua."""
        return (GENERATION_KEY,), (offset, self.name, milliseconds(OPENING_SECONDS))

    def read(self, reply: str) -> str:
        """`NAME:OPENS`; raises ValueError for anything else."""
        name, opens = reply.split(":")
        return f"{name}:{int(opens)}"


@attrs.frozen
class HasContributed:
    """Whether a record of spending was added in this epoch; `mark` says that it now is."""

    journal_id: str
    generation: str
    mark: bool = False
    script = "contributed"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See contributed.lua."""
        return (CONTRIBUTIONS_KEY,), (self.journal_id, self.generation, int(self.mark))

    def read(self, reply: str) -> bool:
        """See contributed.lua."""
        return reply == "given"


@lru_cache(maxsize=10_000)
def account(key_id: str) -> tuple[str, ...]:
    """The names of one API key's keys in Redis, in the order of account.lua."""
    return tuple(f"{LAYOUT}:{{{key_id}}}:{name}" for name in _ACCOUNT)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, as the scripts count."""
    return round(seconds * 1000)


def _usage(words: Sequence[str]) -> KeyUsage:
    admissions, window_ends, opened, day, month, day_ends, month_ends = map(int, words)
    return KeyUsage(
        admissions, window_ends / 1000, opened, day, month, day_ends / 1000, month_ends / 1000
    )
