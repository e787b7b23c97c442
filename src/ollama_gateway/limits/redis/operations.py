"""The operations on Redis, as values: each is one call of a Lua script, which is one atomic step.

An operation names its script (`lua/<name>.lua`, which documents its arguments and replies), builds
the arguments and reads the reply. Nothing here does I/O.

All Redis keys of one API key have its id in braces, which puts them in one hash slot of a cluster.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

import attrs

from ollama_gateway.limits.forgiven import Period
from ollama_gateway.limits.quota import (
    MAX_TOKENS,
    Grant,
    KeyUsage,
    LimitRefusal,
    Quota,
    Renewal,
    Reservation,
    ReservationRequest,
    clamp_tokens,
)

LAYOUT: Final = "ollama-gateway:1"
"""Prefix of all names in Redis; its number changes with the layout."""
GENERATION_KEY: Final = f"{LAYOUT}:{{epoch}}"
CONTRIBUTIONS_KEY: Final = f"{LAYOUT}:{{epoch}}:given"
"""Hash: the generation to which each usage journal was added last."""
REBUILD_KEY: Final = f"{LAYOUT}:{{epoch}}:filling"
"""Exists while a gateway adds contributions; expires half a second later."""
OPENING_SECONDS: Final = 1.5
"""Seconds from the start of a generation to its first admission. In that time every gateway, as
each looks once a second, notices it and adds its reservations and its contribution."""

TRIAL_KEY_ID: Final = "trial"
"""The id in the names of the trials' account; no key has it."""
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
        """Build the script's keys and arguments; both parameters are milliseconds."""
        ...

    def read(self, reply: str) -> Any:
        """Read the script's reply; raises ValueError or LookupError if it is malformed."""
        ...


@attrs.frozen
class Reserve:
    """Admit or refuse a request; None if it came too late."""

    request: ReservationRequest
    not_after: float = 0.0
    """Seconds of Redis's clock after which this must have no effect; 0: no such bound."""
    generation: str | None = None
    """The generation in which it may be admitted; None: any."""
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
    """End a reservation; returns the reply of settle.lua."""

    reservation: Reservation
    used: int
    is_carried: bool = False
    """True if it was open when Redis lost everything, so that Redis may not know it."""
    is_unanswered: bool = False
    """True if the caller never got the grant; then it does not count against the rate."""
    was_sent_twice: bool = False
    """True if its reservation was, or may be: then one of them may come after this."""
    script = "settle"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See settle.lua."""
        reservation = self.reservation
        arguments = (offset, reservation.request_id, clamp_tokens(self.used), int(self.is_carried))
        reserved = (reservation.day, reservation.month, reservation.tokens)
        flags = (int(self.is_unanswered), int(self.was_sent_twice))
        return account(reservation.key_id), (*arguments, *reserved, *flags)

    def read(self, reply: str) -> str:
        """See settle.lua."""
        return reply


@attrs.frozen
class Renew:
    """Renew reservations of one key, or open them again."""

    key_id: str
    renewals: tuple[Renewal, ...]
    not_after: float = 0.0
    settled: Container[str] = frozenset()
    """Ids settled since the renewals were read: their settlements may go first, and must stand."""
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
        """Return whether it was in time."""
        return reply == "renewed"


@attrs.frozen
class ReadUsage:
    """Read the use of a key."""

    key_id: str
    generation: str | None = None
    """The generation whose figures count; None: any."""
    script = "usage"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See usage.lua."""
        return account(self.key_id), (offset,)

    def read(self, reply: str) -> KeyUsage:
        """See usage.lua."""
        return _usage(reply.split())


@attrs.frozen
class Contribute:
    """Add the contribution of one usage journal to one key."""

    key_id: str
    journal_id: str
    spent: Mapping[int, int]
    """Tokens by day."""
    forgiven: Mapping[Period, int] = {}
    """Tokens that it takes off, by period."""
    script = "contribute"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See contribute.lua."""
        off = {f"{kind}:{number}": tokens for (kind, number), tokens in self.forgiven.items()}
        pairs = (part for pair in [*self.spent.items(), *off.items()] for part in pair)
        return account(self.key_id), (self.journal_id, *pairs)

    def read(self, reply: str) -> str:
        """See contribute.lua."""
        return reply


@attrs.frozen
class MarkRebuild:
    """Tell all gateways that this one is still adding contributions."""

    script = "rebuild"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See rebuild.lua."""
        return (REBUILD_KEY,), ()

    def read(self, reply: str) -> str:
        """See rebuild.lua."""
        return reply


@attrs.frozen
class OpenGeneration:
    """Return the generation in force; begin one if there is none."""

    name: str
    """Name of a new one."""
    script = "generation"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See generation.lua."""
        return (GENERATION_KEY,), (offset, self.name, milliseconds(OPENING_SECONDS))

    def read(self, reply: str) -> str:
        """Return `NAME:OPENS`; raises ValueError for anything else."""
        name, opens = reply.split(":")
        return f"{name}:{int(opens)}"


@attrs.frozen
class HasContributed:
    """Return whether a usage journal was added in this generation; `mark` notes that it was."""

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


def trial() -> tuple[Reserve, Settle]:
    """Return a reservation, and what gives it back: a trial of the rights that requests need.

    A script that fails in the middle is not undone, so each trial has an id of its own, and only a
    reservation that was made is given back.
    """
    name, quota = f"trial-{secrets.token_hex(8)}", Quota(MAX_TOKENS, MAX_TOKENS)
    reservation = Reservation(name, TRIAL_KEY_ID, 0, 0, 0)
    return (
        Reserve(ReservationRequest(name, TRIAL_KEY_ID, quota)),
        Settle(reservation, 0, is_unanswered=True),
    )


@lru_cache(maxsize=10_000)
def account(key_id: str) -> tuple[str, ...]:
    """Return the names of one API key's keys in Redis, in the order of account.lua."""
    return tuple(f"{LAYOUT}:{{{key_id}}}:{name}" for name in _ACCOUNT)


def milliseconds(seconds: float) -> int:
    """Convert seconds to whole milliseconds, the unit of the scripts."""
    return round(seconds * 1000)


def _usage(words: Sequence[str]) -> KeyUsage:
    admissions, window_ends, opened, day, month, day_ends, month_ends = map(int, words)
    return KeyUsage(
        admissions, window_ends / 1000, opened, day, month, day_ends / 1000, month_ends / 1000
    )
