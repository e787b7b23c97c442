"""Usage by process, as the usage journals of a directory and the fleet's audit log have it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import attrs

from ollama_gateway.limits.charges import Charge
from ollama_gateway.limits.forgiven import Forgiven, by_key_and_period
from ollama_gateway.limits.usage_file import Content, KeyDay, SpendingError, read_file
from ollama_gateway.limits.usage_locks import USAGE_PATTERN
from ollama_gateway.log import get_logger

_log = get_logger("limits")

Totals = Mapping[str, Mapping[int, int]]
"""Tokens by the key's id and the day (days since 1970-01-01, UTC)."""


@attrs.frozen
class Contribution:
    """The usage of one process, living or ended."""

    identity: str
    """The id of its usage journal."""
    totals: Totals
    is_alive: bool
    """Whether a process still adds to it."""
    forgiven: Forgiven = attrs.field(factory=dict)
    """What its resets took off the usage of all."""


Elsewhere = Callable[[], Awaitable[Mapping[str, Totals] | None]]
"""Returns usage by the id of the usage journal, as the fleet's audit log shows it, or None if that
cannot be read. The journal itself may hold more."""


def contributions_of(spent: Mapping[str, Totals]) -> list[Contribution]:
    """Turn usage learned elsewhere into contributions of ended processes."""
    return [Contribution(whose, totals, is_alive=False) for whose, totals in spent.items()]


def read_contributions(directory: Path, own: str) -> list[Contribution]:
    """Read the contributions of all files in `directory` but the one of the id `own`; blocking.

    Open requests count only if the file's process has ended. No file is changed; one that cannot be
    read is logged and left out. A process that starts meanwhile and would own the file waits for
    the reader, and after 2 s takes the next file. So it does not fail, and the values read stay
    true, since it charges the same before it counts as alive.
    """
    return [
        Contribution(
            content.identity,
            by_key(content.spent),
            content.is_alive,
            by_key_and_period(content.forgiven),
        )
        for content in _contents(directory)
        if content.identity != own
    ]


def read_charges(directory: Path) -> dict[str, Charge]:
    """Return the charges of requests whose processes were killed, by request id; blocking.

    Reads the files as `read_contributions` does. Of a living process it returns the charges
    reported so far.
    """
    found: dict[str, Charge] = {}
    for content in _contents(directory):
        found.update(content.charges)
    return found


def _contents(directory: Path) -> Iterator[Content]:
    for path in sorted(directory.glob(USAGE_PATTERN)):
        try:
            content = read_file(path)
        except SpendingError as error:
            _log.warning("spending file left out", cause=str(error))
        else:
            if content is not None:
                yield content


def by_key(spent: Mapping[KeyDay, int]) -> dict[str, dict[int, int]]:
    """Return tokens by key and day."""
    found: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for (key_id, day), tokens in spent.items():
        found[key_id][day] = tokens
    return dict(found)
