"""Records with tokens, and what the daily sums say of them, for tests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import psycopg

from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.daily_sums import FIELDS
from ollama_gateway.ledger.document import document_of, to_text
from ollama_gateway.ledger.read.daily_sums_reader import DailySumsReader, SumsDifference
from ollama_gateway.ledger.read.journals import TimeRange
from tests.ledger.records import BEGAN, record

ALWAYS = TimeRange()
GROUPS = ("day", *FIELDS)


def link(seq: int, hours: float = 0, **fields: Any) -> Link:
    """Return a record that began that many hours after `BEGAN`, with fields as they are stored."""
    one = record(f"r{seq}")
    one.started_at = BEGAN + timedelta(hours=hours)
    tokens = {"prompt_tokens": seq, "completion_tokens": 1, "tokens_source": "reported"}
    text = to_text({**document_of(one), **tokens, **fields})
    return Link(seq, f"r{seq}", text, b"h" * 32)


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
        )
        for seq in numbers
    ]


def expected(records: Iterable[Link], time_range: TimeRange = ALWAYS) -> Counter[tuple[Any, ...]]:
    """Return requests, prompt, completion and counted tokens of each group, from the documents."""
    found: Counter[tuple[Any, ...]] = Counter()
    for one in records:
        document = json.loads(one.document)
        if not time_range.contains(datetime.fromisoformat(document["started_at"])):
            continue
        group = (document["started_at"][:10], *(document[name] for name in FIELDS))
        prompt, completion = document["prompt_tokens"], document["completion_tokens"]
        source = document["tokens_source"] or ""
        found[*group, "requests"] += 1
        found[*group, "prompt_tokens"] += prompt
        found[*group, "completion_tokens"] += completion
        found[*group, "counted_tokens"] += prompt * (source in {"counted", "prompt_counted"})
        found[*group, "counted_tokens"] += completion * (
            source in {"counted", "completion_counted"}
        )
    return +found


def summed(url: str, time_range: TimeRange = ALWAYS) -> Counter[tuple[Any, ...]]:
    """Return the same from the daily sums."""
    with closing(DailySumsReader(url)) as reader:
        answer = reader.sums(time_range, GROUPS, [])
    found: Counter[tuple[Any, ...]] = Counter()
    for one in answer.sums:
        for name, count in one.counts.items():
            found[*(one.values[group] for group in GROUPS), name] += count
    return +found


def differences(url: str) -> list[SumsDifference]:
    """Return where the sums are not those of the records."""
    with closing(DailySumsReader(url)) as reader:
        return [one for day in reader.days() for one in reader.differences(day)]


def ask(url: str, sql: str) -> list[Any]:
    """Return the rows of a query."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []
