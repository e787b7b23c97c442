"""The links of a journal's chain, and what stands beside the records: facts, and marks of changes.

Both must agree with the documents, since only these are chained. An edited file may hold any type,
hence the casts.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.document import is_change, parsed
from ollama_gateway.ledger.facts import FACTS, facts_of
from ollama_gateway.storage.sqlite import Connection, version_of

_LINK: Final = "rows.seq, CAST(request_id AS BLOB), CAST(document AS BLOB), CAST(hash AS BLOB)"
_STRAY: Final = "SELECT min(seq) FROM {} WHERE seq NOT IN (SELECT seq FROM rows)"
_NO_FACTS: Final = (None,) * (len(FACTS) + 1)
IS_CHANGE: Final = "EXISTS (SELECT 1 FROM changes WHERE changes.seq = rows.seq)"
"""Whether a row of `rows` is marked as a change."""


def has_facts(connection: Connection) -> bool:
    """Return whether the facts of records stand beside them."""
    return version_of(connection) >= 2  # noqa: PLR2004 - see journal_migration.py


def has_changes(connection: Connection) -> bool:
    """Return whether the records of changes are marked."""
    return version_of(connection) >= 3  # noqa: PLR2004 - see journal_migration.py


def stray_of(connection: Connection) -> int | None:
    """Return the seq of the first facts, or mark of a change, without a record."""
    tables = ["facts"] * has_facts(connection) + ["changes"] * has_changes(connection)
    found = [connection.execute(_STRAY.format(table)).fetchone()[0] for table in tables]
    return min((seq for seq in found if seq is not None), default=None)


def links_of(connection: Connection, after: int, size: int) -> list[Link]:
    """Return some of the records after a seq, and whether what stands beside them agrees."""
    values = {"after": after, "size": size}
    turn = "WHERE rows.seq > :after ORDER BY rows.seq LIMIT :size"
    if not has_facts(connection):
        found = connection.execute(f"SELECT {_LINK} FROM rows {turn}", values)  # noqa: S608
        return [_link(*row) for row in found]
    mark = IS_CHANGE if has_changes(connection) else "0"
    select = f"""SELECT {_LINK}, {mark}, is_exact, {", ".join(FACTS)}
        FROM rows LEFT JOIN facts USING (seq) {turn}"""  # noqa: S608 - our names
    return [
        attrs.evolve(_link(*row[:4]), is_true_to_columns=_facts(row[0], row[2]) == row[4:])
        for row in connection.execute(select, values)
    ]


def _facts(seq: int, document: bytes) -> tuple[Any, ...]:
    """Return what stands beside a document: whether it is a change, and the facts of a request."""
    found = parsed(document)
    return (1, *_NO_FACTS) if is_change(found) else (0, *facts_of(seq, found)[1:])


def _link(seq: int, request_id: bytes, document: bytes, digest: bytes) -> Link:
    """Return a link; its text is "" if it is not UTF-8, so that its hash cannot hold."""
    try:
        text = document.decode()
    except UnicodeDecodeError:
        text = ""
    return Link(seq, request_id.decode(errors="replace"), text, digest)
