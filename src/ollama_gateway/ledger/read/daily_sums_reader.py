"""The daily sums read from PostgreSQL: usage over whole days, and their comparison with records.

A question is answered as of one moment: the sums, the records of days that it asks for in part, the
records that the sums still lack (`daily_sums.py`), and how far each journal had arrived. The rest
is read from the journals of this machine, so each record counts once while records move.

Everything here blocks and raises DatabaseError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from ollama_gateway.ledger.daily_sums import COUNTS, FIELDS, UNCOUNTED, sums_of
from ollama_gateway.ledger.read.journals import TimeRange
from ollama_gateway.storage.database import Timeouts

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor

TIMEOUTS: Final = Timeouts(statement=300, lock=5, idle=30)
"""A day may have millions of records."""

_PERIODS: Final = {"day": "YYYY-MM-DD", "month": "YYYY-MM"}
_COLUMNS: Final = ", ".join(("day", *FIELDS, *COUNTS, "last_began"))
_SUMS: Final = ", ".join(f"sum({name})" for name in COUNTS)
_BEGIN: Final = b"""SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
    LOCK TABLE gateway_audit_sums IN ACCESS SHARE MODE"""
"""Before the snapshot, as the sums may be emptied to be rebuilt."""
_LAST: Final = b"SELECT seq FROM gateway_audit WHERE journal = %s ORDER BY seq DESC LIMIT 1"

# Whole days from the first midnight on, and before the last one.
_SINCE, _UNTIL = "(%(since)s::timestamptz)", "(%(until)s::timestamptz)"
_FIRST: Final = f"""(({_SINCE} AT TIME ZONE 'UTC' + interval '1 day - 1 microsecond')::date)"""
_END: Final = f"(({_UNTIL} AT TIME ZONE 'UTC')::date)"
_FIRST_MOMENT, _END_MOMENT = (f"({day}::timestamp AT TIME ZONE 'UTC')" for day in (_FIRST, _END))
_WHOLE: Final = f"""day >= coalesce({_FIRST}, '-infinity')
    AND day < coalesce({_END}, 'infinity')"""
_WHOLE_MOMENTS: Final = f"""started_at >= coalesce({_FIRST_MOMENT}, '-infinity')
    AND started_at < coalesce({_END_MOMENT}, 'infinity')"""
# A comparison with NULL is never true, and neither `least` nor `greatest` heeds one.
_BEFORE: Final = f"started_at >= {_SINCE} AND started_at < least({_FIRST_MOMENT}, {_UNTIL})"
_AFTER: Final = f"""started_at >= greatest({_FIRST_MOMENT}, {_END_MOMENT})
    AND started_at < {_UNTIL}"""
_FOUND: Final = f"""
    SELECT {_COLUMNS} FROM gateway_audit_sums WHERE {_WHOLE}
    UNION ALL SELECT {_COLUMNS} FROM gateway_audit_past_sums WHERE {_WHOLE}
    UNION ALL {sums_of(f"gateway_audit AS audit, {UNCOUNTED} AND {_WHOLE_MOMENTS}")}
    UNION ALL {sums_of(f"gateway_audit WHERE {_BEFORE}")}
    UNION ALL {sums_of(f"gateway_audit WHERE {_AFTER}")}"""  # noqa: S608 - our names

_DAYS: Final = b"""WITH RECURSIVE days AS (
        (SELECT (started_at AT TIME ZONE 'UTC')::date AS day FROM gateway_audit
            ORDER BY started_at LIMIT 1)
        UNION ALL SELECT (SELECT (started_at AT TIME ZONE 'UTC')::date FROM gateway_audit
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
        _side(1, sums_of(f"gateway_audit AS audit, {UNCOUNTED} AND {_OF_DAY}")),
        _side(2, sums_of(f"gateway_audit WHERE {_OF_DAY}")),
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
class SummedRequests:
    """The counts of the requests that have some values in common."""

    values: dict[str, str | None]
    """The fields by which they are summed up, perhaps `day` and `month`."""
    counts: dict[str, int]
    """By the names of `COUNTS`."""


@attrs.frozen
class DailySumsAnswer:
    """The sums as of one moment."""

    sums: Sequence[SummedRequests]
    """The group whose last request began latest comes last."""
    read_up_to: dict[str, int]
    """The seq of the last record that they cover, by the identity of the journal."""


class DailySumsReader:
    """Reads the daily sums of all records that have arrived in PostgreSQL."""

    def __init__(self, url: str) -> None:
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        self._database = Database(url, TIMEOUTS)

    def sums(
        self, time_range: TimeRange, names: Iterable[str], journals: Iterable[str]
    ) -> DailySumsAnswer:
        """Sum up the requests that began in a time range.

        Args:
            time_range: days in part are read from the records, which takes longer.
            names: what to group by: of `FIELDS`, `day` and `month`.
            journals: the identities of those whose last seq is needed.

        """
        names = list(names)
        groups = ", ".join(f"to_char(day, '{_PERIODS[n]}')" if n in _PERIODS else n for n in names)
        question = f"""SELECT {groups}, {_SUMS} FROM ({_FOUND}) AS found
            GROUP BY {groups} ORDER BY max(last_began)"""  # noqa: S608 - our names
        values = {"since": time_range.since, "until": time_range.until}
        with self._snapshot() as cursor:
            last = {name: _last(cursor, name) for name in journals}
            found = cursor.execute(question.encode(), values).fetchall()
        count = len(names)
        return DailySumsAnswer(
            [
                SummedRequests(
                    dict(zip(names, row[:count], strict=True)),
                    dict(zip(COUNTS, map(int, row[count:]), strict=True)),
                )
                for row in found
            ],
            last,
        )

    def days(self) -> list[str]:
        """Return the days (UTC) that have sums or records."""
        with self._database.transaction() as cursor:
            return [day for (day,) in cursor.execute(_DAYS)]

    def differences(self, day: str) -> Iterator[SumsDifference]:
        """Yield the keys whose sums of a day are not those of its records."""
        with self._snapshot() as cursor:
            found = cursor.execute(_COMPARE, {"day": day}).fetchall()
        for key_id, name, *counts in found:
            summed, recorded, summed_tokens, recorded_tokens = map(int, counts)
            yield SumsDifference(
                day, key_id, name, (summed, recorded), (summed_tokens, recorded_tokens)
            )

    def close(self) -> None:
        """End the connection."""
        self._database.close()

    @contextmanager
    def _snapshot(self) -> Iterator[Cursor]:
        with self._database.transaction() as cursor:
            cursor.execute(_BEGIN)
            yield cursor


def _last(cursor: Cursor, journal: str) -> int:
    found = cursor.execute(_LAST, (journal,)).fetchone()
    return int(found[0]) if found else 0
