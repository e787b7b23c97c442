"""The daily sums of the audit records in PostgreSQL: counting records that were there before.

A trigger counts each record in the transaction that inserts it (migration 5), whichever version of
the gateway does that. The records from before the trigger are counted here, a batch at a time:
`gateway_audit_uncounted` says for each journal which they are, and changes in the transaction of
the batch. So each record counts once, whenever this is interrupted, and readers know whether the
sums are complete. To rebuild the sums is to empty them and to count all records in that way.

Everything blocks and raises DatabaseError.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Cursor, Database

BATCH: Final = 20_000
"""Records of one transaction; writers wait for the rows of the sums that it has changed."""

_WHO: Final = ("key_id", "key_name", "end_user")
FIELDS: Final = (*_WHO, "model", "backend", "outcome", "tokens_source")
"""The fields of a record by which it is summed up, besides the day on which it began, in UTC."""
COUNTS: Final = {
    "requests": "count(*)",
    "prompt_tokens": "coalesce(sum(prompt_tokens), 0)",
    "completion_tokens": "coalesce(sum(completion_tokens), 0)",
    "cached_tokens": (
        "coalesce(sum(least(cached_tokens, coalesce(prompt_tokens, 0)))"
        " FILTER (WHERE cached_tokens IS NOT NULL), 0)"
    ),
    "cached_of_tokens": "coalesce(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0)",
}
"""The counts of a sum, as they are made of records."""
REQUESTS: Final = "kind IS NULL"
"""The condition that leaves the changes of operators out."""
DAY: Final = "(started_at AT TIME ZONE 'UTC')::date"
_VALUES: Final = ", ".join(FIELDS)
_OF_RECORDS: Final = ", ".join(f"{count} AS {name}" for name, count in COUNTS.items())
_ID: Final = f"sha256(convert_to(ROW (to_char(day, 'YYYY-MM-DD'), {_VALUES})::text, 'UTF8'))"
_ADDED: Final = ", ".join(f"{name} = sums.{name} + excluded.{name}" for name in COUNTS)
_ON_CONFLICT: Final = f"""ON CONFLICT (id) DO UPDATE SET {_ADDED},
    last_began = greatest(sums.last_began, excluded.last_began)"""


def sums_of(source: str) -> str:
    """Return the query that sums up the records of a source: a FROM clause and what follows it."""
    return f"""SELECT {DAY} AS day, {_VALUES}, {_OF_RECORDS}, max(started_at) AS last_began
        FROM {source} GROUP BY 1, {_VALUES}"""  # noqa: S608 - our names


def _add(source: str) -> str:
    """Return the statement that adds the records of a source to the sums, in the order of ids."""
    return f"""INSERT INTO gateway_audit_sums AS sums SELECT {_ID} AS id, found.*
        FROM ({sums_of(source)}) AS found ORDER BY id {_ON_CONFLICT}"""  # noqa: S608 - our names


_OF_PARTITION: Final = """{} AS audit, gateway_audit_uncounted AS lacking
    WHERE audit.journal = lacking.journal AND seq > counted AND seq <= upto AND kind IS NULL"""
"""The records of a partition that the sums lack."""
_NEXT: Final = b"""SELECT journal, counted, upto FROM gateway_audit_uncounted
    ORDER BY journal LIMIT 1 FOR UPDATE"""
# An edited table may have two records with one seq; no batch ends between them.
_COUNT: Final = f"""WITH batch AS MATERIALIZED (
        SELECT seq, kind, started_at, {_VALUES},
            prompt_tokens, completion_tokens, cached_tokens
        FROM gateway_audit WHERE journal = %s AND seq > %s AND seq <= %s
        ORDER BY seq FETCH FIRST %s ROWS WITH TIES
    ), added AS ({_add(f"batch WHERE {REQUESTS}")})
    SELECT count(*), max(seq) FROM batch""".encode()  # noqa: S608 - our names
_PASS: Final = b"UPDATE gateway_audit_uncounted SET counted = %s WHERE journal = %s"
_FINISH: Final = b"DELETE FROM gateway_audit_uncounted WHERE journal = %s"

_EMPTY: Final = b"""SET LOCAL lock_timeout = '300ms';
    SET LOCAL statement_timeout = '400ms';
    LOCK TABLE gateway_audit IN SHARE MODE;
    TRUNCATE gateway_audit_sums, gateway_audit_uncounted;
    INSERT INTO gateway_audit_uncounted
    WITH RECURSIVE known AS (
        (SELECT journal FROM gateway_audit ORDER BY journal LIMIT 1)
        UNION ALL SELECT (SELECT journal FROM gateway_audit AS later
            WHERE later.journal > known.journal ORDER BY journal LIMIT 1)
        FROM known WHERE known.journal IS NOT NULL
    )
    SELECT journal, (-9223372036854775808)::bigint,
        (SELECT seq FROM gateway_audit AS audit WHERE audit.journal = known.journal
            ORDER BY seq DESC LIMIT 1)
    FROM known WHERE journal IS NOT NULL"""

_MOVE: Final = f"""WITH past AS (
        DELETE FROM gateway_audit_sums WHERE day >= %s AND day < %s RETURNING *
    ) INSERT INTO gateway_audit_past_sums AS sums SELECT * FROM past
    ORDER BY id {_ON_CONFLICT}""".encode()  # noqa: S608 - our names


def count_batch(database: Database, size: int = BATCH) -> int | None:
    """Count some of the records that the sums lack; return how many, or None if they lack none."""
    with database.transaction() as cursor:
        if (found := cursor.execute(_NEXT).fetchone()) is None:
            return None
        journal, counted, upto = found
        [(records, last)] = cursor.execute(_COUNT, (journal, counted, upto, size)).fetchall()
        if records:
            cursor.execute(_PASS, (last, journal))
        else:
            cursor.execute(_FINISH, (journal,))
        return int(records)


def empty(database: Database) -> None:
    """Empty the sums, and note that they lack all records that are there now.

    Writers wait meanwhile, for less than a second; it fails rather than let them wait longer.
    """
    with database.transaction() as cursor:
        cursor.execute(_EMPTY)


def keep_past(cursor: Cursor, partition: str, first: datetime, following: datetime) -> None:
    """Keep the sums of a month whose partition will be dropped, and count what they lack of it."""
    cursor.execute("SELECT FROM gateway_audit_uncounted ORDER BY journal FOR UPDATE")
    cursor.execute(_add(_OF_PARTITION.format(partition)).encode())
    cursor.execute(_MOVE, (first.date(), following.date()))
