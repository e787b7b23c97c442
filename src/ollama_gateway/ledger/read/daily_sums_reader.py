"""The daily sums read from PostgreSQL: usage over whole days, and their comparison with records.

A question is answered as of one moment: the sums, the records of days that it asks for in part, and
how far each journal had come. The rest is read from the journals of this machine, so each record
counts once while records move.

Everything here blocks and raises DatabaseError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from ollama_gateway.ledger.daily_sums import COUNTS, FIELDS, REQUESTS, sums_of
from ollama_gateway.ledger.read.conditions import BEGAN, conditions_of
from ollama_gateway.ledger.read.filtering import Filter, TimeRange
from ollama_gateway.ledger.read.grouping import DAY, SUMS, GroupSum
from ollama_gateway.storage.database import DatabaseError, Timeouts

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor, Database

TIMEOUTS: Final = Timeouts(statement=300, lock=5, idle=30)
"""Of a comparison: a day may have millions of records."""

_COLUMNS: Final = ", ".join((DAY, *FIELDS, *COUNTS, "last_began"))
_BEGIN: Final = b"""SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
    LOCK TABLE gateway_audit_sums IN ACCESS SHARE MODE"""
"""Before the snapshot, as the sums may be emptied to be rebuilt."""
_IS_INCOMPLETE: Final = b"SELECT EXISTS (SELECT FROM gateway_audit_uncounted)"
_LAST: Final = b"SELECT seq FROM gateway_audit WHERE journal = %s ORDER BY seq DESC LIMIT 1"

# Whole days from the first midnight on, and before the last one.
_SINCE, _UNTIL = "(%(since)s::timestamptz)", "(%(until)s::timestamptz)"
_FIRST: Final = f"(({_SINCE} AT TIME ZONE 'UTC' + interval '1 day - 1 microsecond')::date)"
_END: Final = f"(({_UNTIL} AT TIME ZONE 'UTC')::date)"
_FIRST_MOMENT, _END_MOMENT = (f"({day}::timestamp AT TIME ZONE 'UTC')" for day in (_FIRST, _END))
_WHOLE: Final = f"day >= coalesce({_FIRST}, '-infinity') AND day < coalesce({_END}, 'infinity')"
# A comparison with NULL is never true, and neither `least` nor `greatest` heeds one.
_BEFORE: Final = f"started_at >= {_SINCE} AND started_at < least({_FIRST_MOMENT}, {_UNTIL})"
_AFTER: Final = f"""started_at >= greatest({_FIRST_MOMENT}, {_END_MOMENT})
    AND started_at < {_UNTIL}"""
_FOUND: Final = f"""
    SELECT {_COLUMNS} FROM gateway_audit_sums WHERE {_WHOLE} AND {{0}}
    UNION ALL SELECT {_COLUMNS} FROM gateway_audit_past_sums WHERE {_WHOLE} AND {{0}}
    UNION ALL {sums_of(f"gateway_audit WHERE {REQUESTS} AND {_BEFORE} AND {{0}}")}
    UNION ALL {sums_of(f"gateway_audit WHERE {REQUESTS} AND {_AFTER} AND {{0}}")}"""  # noqa: S608 - our names

# UNION ends the recursion at a moment that an edit has made infinite.
_DAYS: Final = b"""WITH RECURSIVE days AS (
        (SELECT (started_at AT TIME ZONE 'UTC')::date AS day FROM gateway_audit
            ORDER BY started_at LIMIT 1)
        UNION SELECT (SELECT (started_at AT TIME ZONE 'UTC')::date FROM gateway_audit
            WHERE started_at >= (day + 1)::timestamp AT TIME ZONE 'UTC'
            ORDER BY started_at LIMIT 1)
        FROM days WHERE day IS NOT NULL
    ) SELECT to_char(day, 'YYYY-MM-DD') FROM (
        SELECT day FROM days UNION SELECT day FROM gateway_audit_sums
    ) AS known WHERE isfinite(day) ORDER BY day"""
_OF_DAY: Final = """started_at >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
    AND started_at < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'"""
_TOKENS: Final = "prompt_tokens + completion_tokens"


def _side(number: int, query: str) -> str:
    return f"SELECT {number} AS side, {_COLUMNS} FROM ({query}) AS one"  # noqa: S608 - our names


_SIDES: Final = " UNION ALL ".join(
    (
        _side(1, "SELECT * FROM gateway_audit_sums WHERE day = %(day)s::date"),
        _side(2, sums_of(f"gateway_audit WHERE {REQUESTS} AND {_OF_DAY}")),
    )
)


def _both(count: str, name: str) -> str:
    sides = (f"coalesce(sum({count}) FILTER (WHERE side = {side}), 0)" for side in (1, 2))
    return ", ".join(f"{one} AS {name}_{side}" for side, one in enumerate(sides, 1))


def _counts(side: int) -> str:
    counts = (f"sum({name}) FILTER (WHERE side = {side})" for name in COUNTS)
    return ", ".join((*counts, f"max(last_began) FILTER (WHERE side = {side})"))


_COMPARE: Final = f"""SELECT key_id, max(key_name), sum(requests_1), sum(requests_2),
        sum(tokens_1), sum(tokens_2)
    FROM (SELECT key_id, key_name, {_both("requests", "requests")}, {_both(_TOKENS, "tokens")},
            ROW ({_counts(1)}) IS DISTINCT FROM ROW ({_counts(2)}) AS differs
        FROM ({_SIDES}) AS sides GROUP BY {", ".join(FIELDS)}) AS compared
    GROUP BY key_id HAVING bool_or(differs) ORDER BY key_id""".encode()  # noqa: S608 - our names


@attrs.frozen
class SumsDifference:
    """A day and a key whose sums are not those of the records."""

    day: str
    key_id: str | None
    key_name: str | None
    requests: tuple[int, int]
    """In the sums, and in the records."""
    tokens: tuple[int, int]
    """The same, of prompts and answers together."""


@attrs.frozen
class DailySums:
    """The sums as of one moment."""

    groups: Sequence[GroupSum]
    upto: dict[str, int]
    """The seq of the last record that they cover, by the identity of the journal."""


def read_sums(
    database: Database, wanted: Filter, dimensions: Sequence[str], journals: Iterable[str]
) -> DailySums | None:
    """Sum up the wanted requests; None if the sums cannot tell them apart, or lack records.

    Args:
        database: where they are.
        wanted: the filter; days that it wants in part are read from the records.
        dimensions: what to group by.
        journals: the identities of those whose last seq is needed.

    """
    always = attrs.evolve(wanted, time_range=TimeRange())
    named = {column for one in always.conditions() for column in one.columns}
    if not {*dimensions, *named} <= {DAY, *FIELDS}:
        return None
    try:
        with _snapshot(database) as cursor:
            if cursor.execute(_IS_INCOMPLETE).fetchone() == (True,):
                return None
            upto = {name: _last(cursor, name) for name in journals}
            return DailySums(list(_groups(cursor, wanted, always, dimensions)), upto)
    except DatabaseError as error:
        if not error.is_lacking:
            raise
        return None  # of an older schema, or not for this role: the records say the same


def _groups(
    cursor: Cursor, wanted: Filter, always: Filter, dimensions: Sequence[str]
) -> Iterator[GroupSum]:
    # A column cannot tell all spellings of a model from other models.
    names = dimensions if wanted.model is None else (*dimensions, "model")
    where, values = conditions_of(always)
    values |= {"since": wanted.time_range.since, "until": wanted.time_range.until}
    groups = ", ".join("to_char(day, 'YYYY-MM-DD')" if name == DAY else name for name in names)
    counts = ", ".join(f"sum({name})" for name in ("requests", *SUMS))
    question = f"""SELECT {groups}, {BEGAN.format("max(last_began)")}, {counts}
        FROM ({_FOUND.format(where)}) AS found GROUP BY {groups}"""  # noqa: S608 - our names
    cut = len(names)
    for row in cursor.execute(question.encode(), values):
        latest, *numbers = row[cut:]
        requests, prompt, completion, cached, cached_of = map(int, numbers)
        if wanted.is_of_model(row[cut - 1] if wanted.model is not None else None):
            group = row[: len(dimensions)]
            yield GroupSum(group, requests, (prompt, completion, cached, cached_of), latest)


def days_of(database: Database) -> list[str]:
    """Return the days (UTC) that have sums or records."""
    with database.transaction() as cursor:
        return [day for (day,) in cursor.execute(_DAYS)]


def differences(database: Database, day: str) -> Iterator[SumsDifference]:
    """Yield the keys whose sums of a day are not those of its records."""
    with _snapshot(database) as cursor:
        if cursor.execute(_IS_INCOMPLETE).fetchone() == (True,):
            raise DatabaseError("the daily sums lack records: run `gatewayctl db migrate`")
        found = cursor.execute(_COMPARE, {"day": day}).fetchall()
    for key_id, name, *counts in found:
        summed, recorded, summed_tokens, recorded_tokens = map(int, counts)
        yield SumsDifference(
            day, key_id, name, (summed, recorded), (summed_tokens, recorded_tokens)
        )


@contextmanager
def _snapshot(database: Database) -> Iterator[Cursor]:
    with database.transaction() as cursor:
        cursor.execute(_BEGIN)
        yield cursor


def _last(cursor: Cursor, journal: str) -> int:
    found = cursor.execute(_LAST, (journal,)).fetchone()
    return int(found[0]) if found else 0
