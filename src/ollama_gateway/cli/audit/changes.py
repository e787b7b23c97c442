"""`gatewayctl audit changes`: what operators changed; and one change in `audit show`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, takewhile
from typing import Final

from ollama_gateway.cli.audit.options import FIRST, FollowOption, LimitOption
from ollama_gateway.cli.audit.sources import (
    following,
    newest,
    opened,
    readable_in_part,
    until_stopped,
)
from ollama_gateway.cli.audit.time_range import SinceOption, UntilOption, read_time_range
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import TablePrinter, say
from ollama_gateway.cli.remote.here_only import here_only
from ollama_gateway.cli.table import NOTHING, Column, Row
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.printable import printable

OUTCOMES: Final = {
    "made": "it was made",
    "failed": "it ended in an error",
    "unknown": "the program ended before the end of the change was recorded",
}
COLUMNS: Final = (
    Column("at"),
    Column("by"),
    Column("action"),
    Column("target"),
    Column("outcome"),
    Column("reason", 2, is_prose=True),
    Column("change", 1),
)
"""The columns of `audit changes`."""
_TYPICAL: Final[Row] = (
    *("2026-01-02T03:04:05Z", "settings", "keys.update", "abcdefgh", "made", NOTHING),
    "0" * 32,
)


@here_only("reads the stores themselves", even_in_use=False)
def changes(
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = None,
    follow: FollowOption = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List what operators changed, one change per line, oldest first."""
    wanted = Filter(read_time_range(since, until), kind="change")
    settings = load_for_stores(config)
    with opened(settings, "audit changes") as audit_log, readable_in_part("audit changes"):
        recorded = newest(audit_log, wanted, limit)
        records = recorded if follow else islice(recorded, limit)
        first = list(islice(records, FIRST))
        if not follow:
            _print(first, records, as_json=as_json, wide=wide)
            return
        with until_stopped() as stopped:
            found = chain(records, following(audit_log, wanted, stopped))
            others = takewhile(lambda _: not stopped.is_set(), found)
            _print(first, others, as_json=as_json, wide=wide)


def render_change(record: StoredRecord) -> Iterator[str]:
    """Yield the lines of `audit show` for a change."""
    document = record.document
    outcome = _outcome(document)
    where = f"record {record.seq}" if record.seq else "open"
    words = OUTCOMES.get(outcome)
    facts = {
        "change": document["change_id"],
        "at": document["at"],
        "by": document["by"],
        "action": document["action"],
        "target": document["target"],
        "reason": document["reason"] or NOTHING,
        "outcome": f"{outcome}: {words}" if words else outcome,
    }
    if record.journal:  # else it came from a gateway, which does not tell
        facts["recorded in"] = f"{record.journal}, {where}"
    for name, value in facts.items():
        yield f"{name:<13}{printable(value)}"
    before, after = document["before"], document["after"]
    if before is not None or after is not None:
        yield ""
    for name in dict.fromkeys([*(before or {}), *(after or {})]):
        was, became = (_value(side, name) for side in (before, after))
        line = became if before is None or was == became else f"{was} -> {became}"
        yield f"{printable(name):<13}{was if after is None else line}"


def _value(side: Document | None, name: str) -> str:
    if side is None or name not in side:
        return NOTHING
    value = side[name]
    return printable(value if isinstance(value, str) else json.dumps(value))


def _print(
    first: Sequence[StoredRecord], others: Iterable[StoredRecord], *, as_json: bool, wide: bool
) -> None:
    """Print changes; the widths of the table are those of the first ones."""
    if as_json:
        for record in chain(first, others):
            say(json.dumps(record.document))
        return
    rows = [_row(record.document) for record in first] or [_TYPICAL]
    table = TablePrinter(COLUMNS, rows, wide=wide)
    table.print_head()
    for record in chain(first, others):
        table.print_row(_row(record.document))
    table.print_hint()


def _row(document: Document) -> Row:
    when = document["at"][:19] + "Z"
    named = (document["by"], document["action"], document["target"], _outcome(document))
    return (when, *named, document["reason"] or NOTHING, document["change_id"])


def _outcome(document: Document) -> str:
    return document["outcome"] or "being made"
