"""The limits of one key as a list of requests, added up anew at each question."""

from __future__ import annotations

import attrs

from ollama_gateway.limits.forgiven import Period
from ollama_gateway.limits.quota import REMEMBERED_SECONDS, Reservation
from tests.limits.subject import LEASE_SECONDS


@attrs.define
class Entry:
    """The state of one request."""

    reservation: Reservation
    state: str = "open"
    """open, expired, settled."""
    used: int = 0
    at: float = 0.0
    """When it was last renewed, or when it expired."""


@attrs.define
class Model:
    """All requests of one key."""

    entries: dict[str, Entry] = attrs.field(factory=dict)
    tombstones: dict[str, float] = attrs.field(factory=dict)
    admissions: list[float] = attrs.field(factory=list)
    forgiven: dict[Period, int] = attrs.field(factory=dict)
    """By a reset, of requests that had ended then."""

    def pass_time(self, now: float) -> None:
        """Expire leases that were not renewed; forget what has aged out."""
        for request_id, entry in list(self.entries.items()):
            if entry.state == "open" and now >= entry.at + LEASE_SECONDS:
                entry.state, entry.at = "expired", now
            elif entry.state == "expired" and now >= entry.at + REMEMBERED_SECONDS:
                entry.state = "forgotten"
            if entry.state == "forgotten":
                self.entries[f"{request_id} once"] = self.entries.pop(request_id)
        self.tombstones = {
            i: at for i, at in self.tombstones.items() if now < at + REMEMBERED_SECONDS
        }

    def value(self, day: int | None = None, month: int | None = None) -> int:
        """Tokens reserved and spent in a period; a request without tokens is charged none."""
        period: Period = ("day", day) if day is not None else ("month", month or 0)
        return sum(
            entry.reservation.tokens if entry.state == "open" else entry.used
            for entry in self.entries.values()
            if entry.reservation.tokens and _is_in(entry, period)
        ) - self.forgiven.get(period, 0)

    def forgive(self, period: Period) -> None:
        """Take off what all requests used that have ended."""
        self.forgiven[period] = sum(
            entry.used
            for entry in self.entries.values()
            if entry.state in {"settled", "forgotten"}
            and entry.reservation.tokens
            and _is_in(entry, period)
        )

    def open(self) -> list[Entry]:
        """The open requests."""
        return [entry for entry in self.entries.values() if entry.state == "open"]


def _is_in(entry: Entry, period: Period) -> bool:
    return bool(getattr(entry.reservation, period[0]) == period[1])
