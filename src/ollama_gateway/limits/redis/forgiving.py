"""The operation that sets the usage of a key back to zero, and what rebuilds add and take off."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ollama_gateway.limits.calendar import month_of
from ollama_gateway.limits.contributions import Contribution
from ollama_gateway.limits.forgiven import Period, since_month
from ollama_gateway.limits.quota import LimitName
from ollama_gateway.limits.redis.operations import Contribute, ScriptCall, account


@attrs.frozen
class Forgive:
    """Set usage back; returns all that the journal has forgiven by now of the day and the month."""

    key_id: str
    journal_id: str
    """Of the usage journal that will keep it."""
    names: frozenset[LimitName]
    known: Mapping[Period, int]
    """What that journal has forgiven of the key until now."""
    generation: str | None = None
    """The generation whose answer counts; None: any."""
    script = "forgive"

    def call(self, lease: int, offset: int) -> ScriptCall:  # noqa: ARG002
        """See forgive.lua."""
        wanted = (int(name in self.names) for name in ("rate", "day", "month"))
        known = (
            part
            for (kind, number), tokens in self.known.items()
            for part in (f"{kind}:{number}", tokens)
        )
        return account(self.key_id), (offset, self.journal_id, *wanted, *known)

    def read(self, reply: str) -> dict[Period, int]:
        """See forgive.lua."""
        _, day, of_day, month, of_month = reply.split()
        return {("day", int(day)): int(of_day), ("month", int(month)): int(of_month)}


def contribute_all(contribution: Contribution, this_month: int) -> list[Contribute]:
    """Return the operations that add what a journal says of each key, from a month on."""
    totals, forgiven = contribution.totals, contribution.forgiven
    return [
        Contribute(
            key_id,
            contribution.identity,
            {day: n for day, n in totals.get(key_id, {}).items() if month_of(day) >= this_month},
            dict(since_month(forgiven.get(key_id, {}), this_month)),
        )
        for key_id in {**totals, **forgiven}
    ]
