"""Records with tokens, and what the daily sums say of them, for tests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import attrs
import psycopg

from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.daily_sums import FIELDS
from ollama_gateway.ledger.document import document_of, to_text
from ollama_gateway.ledger.postgres import COLUMNS, values_of
from ollama_gateway.ledger.read.daily_sums_reader import (
    SumsDifference,
    days_of,
    differences,
    read_sums,
)
from ollama_gateway.ledger.read.filtering import ALL, Filter, TimeRange
from ollama_gateway.ledger.read.grouping import SUMS, group_of
from ollama_gateway.storage.postgres import Database
from tests.ledger.records import BEGAN, record

ALWAYS = TimeRange()
GROUPS = ("day", *FIELDS)
LACKING = "INSERT INTO gateway_audit_uncounted VALUES ('none', 0, 1)"
"""Makes the sums incomplete, so that usage is summed up from the records."""


def link(seq: int, hours: float = 0, **fields: Any) -> Link:
    """Return a record that began that many hours after `BEGAN`, with fields as they are stored."""
    one = record(f"r{seq}")
    one.started_at = BEGAN + timedelta(hours=hours)
    tokens = {"prompt_tokens": seq, "completion_tokens": 1, "tokens_source": "reported"}
    text = to_text({**document_of(one), **tokens, **fields})
    return Link(seq, f"r{seq}", text, b"h" * 32)


def older_links(numbers: Iterable[int]) -> list[Link]:
    """Return the same records as `links`, as gateways wrote them that told no cached tokens."""
    found = links(numbers)
    return [
        attrs.evolve(one, document=to_text({**json.loads(one.document), "cached_tokens": None}))
        for one in found
    ]


def store_as_older(url: str, journal: str, given: Iterable[Link]) -> None:
    """Store records as a gateway does that knows neither the sums nor the newer columns."""
    names = [name for name in COLUMNS if name not in {"cached_tokens", "kind"}]
    statement = (
        f"INSERT INTO gateway_audit ({', '.join(names)})"  # noqa: S608 - our names
        f" VALUES ({', '.join('%s' for _ in names)}) ON CONFLICT DO NOTHING"
    )
    with psycopg.connect(url) as connection:
        for one in given:
            values = dict(zip(COLUMNS, values_of(journal, one), strict=True))
            connection.execute(statement.encode(), [values[name] for name in names])


def links(numbers: Iterable[int]) -> list[Link]:
    """Return records of several days, keys, models and outcomes."""
    outcomes = ("completed", "refused", "killed")
    sources = ("reported", "counted", "prompt_counted", "completion_counted", None)
    return [
        link(
            seq,
            seq * 5,
            key_id=f"k{seq % 3}",
            model=None if seq % 7 == 0 else f"m{seq % 4}",
            end_user="" if seq % 5 == 0 else None,
            outcome=outcomes[seq % 3],
            tokens_source=sources[seq % 5],
            cached_tokens=(None, 0, seq - 1, seq + 9)[seq % 4],
        )
        for seq in numbers
    ]


def expected(records: Iterable[Link], time_range: TimeRange = ALWAYS) -> Counter[tuple[Any, ...]]:
    """Return requests, prompt and completion tokens of each group, from the documents."""
    found: Counter[tuple[Any, ...]] = Counter()
    for one in records:
        document = json.loads(one.document)
        if not time_range.contains(datetime.fromisoformat(document["started_at"])):
            continue
        group = (document["started_at"][:10], *(document[name] for name in FIELDS))
        found[*group, "requests"] += 1
        for name, count in zip(SUMS, group_of(document, ()).counts, strict=True):
            found[*group, name] += count
    return +found


def summed(url: str, wanted: Filter = ALL) -> Counter[tuple[Any, ...]] | None:
    """Return the same from the daily sums; None if they cannot tell."""
    with closing(Database(url)) as database:
        answer = read_sums(database, wanted, GROUPS, [])
    found: Counter[tuple[Any, ...]] = Counter()
    for one in answer.groups if answer else []:
        for name, count in zip(("requests", *SUMS), (one.requests, *one.counts), strict=True):
            found[*one.values, name] += count
    return +found if answer else None


def found_differences(url: str) -> list[SumsDifference]:
    """Return where the sums are not those of the records."""
    with closing(Database(url)) as database:
        return [one for day in days_of(database) for one in differences(database, day)]


def ask(url: str, sql: str) -> list[Any]:
    """Return the rows of a query."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []
