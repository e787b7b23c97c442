"""Reads one journal, a page at a time, each in a transaction of its own.

So a reader that waits for its pipe never keeps a gateway from reusing its write-ahead log. Nothing
is ever written. Records are selected and summed by their facts (`ledger/facts.py`); a journal of
schema 1 has none, and gives its documents instead. An edited file may hold any type, hence the
casts. Everything blocks and raises JournalError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import attrs

from ollama_gateway.ledger.chain import Checkpoint, Link
from ollama_gateway.ledger.journal import JournalError, JournalHead, reading
from ollama_gateway.ledger.ownership import JOURNAL_PATTERN
from ollama_gateway.ledger.read.filtering import Condition, Filter
from ollama_gateway.ledger.read.grouping import DAY, SUMS, GroupSum, group_from
from ollama_gateway.ledger.read.journal_links import (
    IS_CHANGE,
    has_changes,
    has_facts,
    links_of,
    stray_of,
)
from ollama_gateway.ledger.read.page import MAX_INT64, Page, RawRecord
from ollama_gateway.ledger.read.records import as_text
from ollama_gateway.storage.sqlite import Connection, version_of

TURN: Final = 50_000
"""Records summed in one transaction."""
PAGE: Final = 1000
"""Records of a journal of schema 1 that are read for sums in one transaction."""

_DOCUMENT: Final = "CAST(document AS BLOB)"
_DOCUMENTS: Final = f"SELECT seq, {_DOCUMENT} FROM rows"  # noqa: S608 - our names
_TURN: Final = f"{_DOCUMENTS} WHERE seq > :after ORDER BY seq LIMIT :turn"
_LAST: Final = """SELECT coalesce((SELECT seq FROM rows ORDER BY seq DESC LIMIT 1),
    max(CAST(seq AS INTEGER)), 0) FROM chain"""
_CHECKPOINT: Final = "SELECT seq, hash, CAST(identity AS BLOB) FROM chain"
_INTENTS: Final = f"SELECT 0, {_DOCUMENT} FROM intents"  # noqa: S608 - our names
_WITH_FACTS: Final = f"""SELECT seq, {_DOCUMENT} FROM facts JOIN rows USING (seq)"""  # noqa: S608 - our names
_END: Final = "SELECT seq FROM facts WHERE seq > :after ORDER BY seq LIMIT 1 OFFSET :turn"
_WITH_CHANGES: Final = f"SELECT seq, {_DOCUMENT} FROM changes JOIN rows USING (seq) WHERE TRUE"  # noqa: S608 - our names


@attrs.frozen
class JournalState:
    """What a journal holds at one moment."""

    identity: str = ""
    """"" for a journal that is just being made."""
    checkpoint: Checkpoint = attrs.field(factory=Checkpoint)
    records: int = 0
    first: Link | None = None
    stray: int | None = None
    """The seq of the first facts without a record."""
    has_expected_head: bool = False
    """Whether the record with the expected hash is there, or is the checkpoint."""


class JournalReader:
    """Reads the journal at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<JournalReader {self.path}>"

    def head(self) -> JournalHead:
        """Return how far the journal goes, also if its records have moved."""
        with self._reading() as connection:
            if connection is None:
                return JournalHead("", 0)
            for _, _, name in connection.execute(_CHECKPOINT):
                if isinstance(name, bytes) and name:
                    return JournalHead(name.decode(errors="replace"), _last(connection))
        raise JournalError(f"{self.path}: its identity is not as this program writes it")

    def page(self, after: int, wanted: Filter, size: int) -> Page[RawRecord]:
        """Return some of the records after a seq that may be wanted, in order."""
        with self._reading() as connection:
            if connection is None:
                return Page()
            source, values = _selected(connection, wanted)
            select = f"{source} AND seq > :after ORDER BY seq LIMIT :size"
            found = connection.execute(select, {**values, "after": after, "size": size}).fetchall()
            upto = found[-1][0] if len(found) == size else max(_last(connection), after)
            return Page(found, upto, _checkpoint_seq(connection), is_local=True)

    def page_before(self, before: int, wanted: Filter, size: int) -> list[RawRecord]:
        """Return some of the records before a seq that may be wanted, newest first."""
        with self._reading() as connection:
            if connection is None:
                return []
            source, values = _selected(connection, wanted)
            select = f"{source} AND seq < :before ORDER BY seq DESC LIMIT :size"
            return connection.execute(select, {**values, "before": before, "size": size}).fetchall()

    def sums(
        self, after: int, wanted: Filter, dimensions: Sequence[str]
    ) -> Page[GroupSum | RawRecord]:
        """Return sums of some of the records after a seq, and records that must be read for them.

        Args:
            after: the seq.
            wanted: selects; sums of records that are not wanted may be among them only if the
                dimensions name what tells them apart.
            dimensions: to group by, from `grouping.DIMENSIONS`.

        """
        with self._reading() as connection:
            if connection is None:
                return Page()
            checkpoint = _checkpoint_seq(connection)
            if not has_facts(connection):
                found = connection.execute(_TURN, {"after": after, "turn": PAGE}).fetchall()
                upto = found[-1][0] if found else max(_last(connection), after)
                return Page(found, upto, checkpoint, is_local=True)
            ends = connection.execute(_END, {"after": after, "turn": TURN - 1}).fetchone()
            upto = ends[0] if ends else max(_last(connection), after)
            where, values = _conditions(wanted)
            values |= {"after": after, "upto": upto}
            names = ", ".join(map(_expression, dimensions))
            counts = ", ".join(SUMS.values())
            turn = "seq > :after AND seq <= :upto"
            sums = f"""SELECT {names}, count(*), {counts}, max(started_at) FROM facts
                WHERE {turn} AND is_exact AND {where} GROUP BY {names}"""  # noqa: S608 - our names
            odd = f"{_WITH_FACTS} WHERE {turn} AND NOT is_exact ORDER BY seq"
            groups = [group_from(row, dimensions) for row in connection.execute(sums, values)]
            records = connection.execute(odd, values).fetchall()
            return Page([*groups, *records], upto, checkpoint, is_local=True)

    def links(self, after: int, size: int) -> Page[Link]:
        """Return some of the records after a seq, and whether their facts agree with them."""
        with self._reading() as connection:
            if connection is None:
                return Page()
            found = links_of(connection, after, size)
            upto = found[-1].seq if found else after
            return Page(found, upto, _checkpoint_of(connection, self.path)[0].seq)

    def checkpoint(self) -> tuple[Checkpoint, str]:
        """Return the record before the first, and the journal's identity."""
        with self._reading() as connection:
            return _checkpoint_of(connection, self.path) if connection else (Checkpoint(), "")

    def state(self, expected_head: bytes = b"") -> JournalState:
        """Return what the journal holds."""
        with self._reading() as connection:
            if connection is None:
                return JournalState()
            checkpoint, identity = _checkpoint_of(connection, self.path)
            [(records,)] = connection.execute("SELECT count(*) FROM rows")
            first = next(iter(links_of(connection, -MAX_INT64, 1)), None)
            stray = stray_of(connection)
            has_head = bool(expected_head) and (
                expected_head == checkpoint.hash
                or bool(
                    connection.execute(
                        "SELECT 1 FROM rows WHERE hash = ?", (expected_head,)
                    ).fetchone()
                )
            )
            return JournalState(identity, checkpoint, records, first, stray, has_head)

    def intents(self) -> list[RawRecord]:
        """Return the open requests: never more than a gateway serves at once."""
        with self._reading() as connection:
            if connection is None:
                return []
            return connection.execute(f"{_INTENTS} ORDER BY request_id").fetchall()

    def find(self, request_id: str) -> list[RawRecord]:
        """Return the record of a request, ended or not; its seq is 0 while it runs."""
        with self._reading() as connection:
            if connection is None:
                return []
            select = f"""{_DOCUMENTS} WHERE request_id = :id
                UNION ALL {_INTENTS} WHERE request_id = :id"""
            return connection.execute(select, {"id": as_text(request_id)}).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """Read the file as of one moment; None if its owner has written nothing into it yet."""
        with reading(self.path) as connection:
            is_made = (
                version_of(connection)
                or connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            )
            yield connection if is_made else None


def paths_in(directory: Path) -> list[Path]:
    """Return the journals of a directory, by their numbers."""
    try:
        found = [path for path in directory.iterdir() if path.match(JOURNAL_PATTERN)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"{directory}: {error.strerror}") from error
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _selected(connection: Connection, wanted: Filter) -> tuple[str, dict[str, Any]]:
    """Return the beginning of a question for documents that may be wanted, and its values."""
    if wanted.kind == "change":
        is_there = has_changes(connection)
        return (_WITH_CHANGES if is_there else f"{_DOCUMENTS} WHERE FALSE"), {}
    where, values = _conditions(wanted)
    if values and has_facts(connection) and wanted.kind == "request":
        return f"{_WITH_FACTS} WHERE (NOT is_exact OR ({where}))", values
    if has_changes(connection) and wanted.kind == "request":
        return f"{_DOCUMENTS} WHERE NOT {IS_CHANGE}", {}
    return f"{_DOCUMENTS} WHERE TRUE", {}


def _conditions(wanted: Filter) -> tuple[str, dict[str, Any]]:
    conditions = list(wanted.conditions())
    values = {f"v{number}": _value(one) for number, one in enumerate(conditions)}
    where = " AND ".join(
        _condition(one, name) for one, name in zip(conditions, values, strict=True)
    )
    return where or "TRUE", values


def _condition(one: Condition, name: str) -> str:
    form = (
        "instr(lower({}), :{}) > 0" if one.operator == "contains" else f"{{}} {one.operator} :{{}}"
    )
    return f"({' OR '.join(form.format(column, name) for column in one.columns)})"


def _value(one: Condition) -> str:
    if isinstance(one.value, datetime):
        return one.value.isoformat(timespec="microseconds")
    return as_text(one.value)


def _expression(dimension: str) -> str:
    return "substr(started_at, 1, 10)" if dimension == DAY else dimension


def _last(connection: Connection) -> int:
    [(last,)] = connection.execute(_LAST)
    return int(last)


def _checkpoint_seq(connection: Connection) -> int:
    return max(
        (seq for seq, _, _ in connection.execute(_CHECKPOINT) if isinstance(seq, int)), default=0
    )


def _checkpoint_of(connection: Connection, path: Path) -> tuple[Checkpoint, str]:
    [(seq, digest, name)] = connection.execute(_CHECKPOINT)
    if not isinstance(seq, int) or not isinstance(digest, bytes):
        raise JournalError(f"{path}: the checkpoint is not as this program writes it")
    return Checkpoint(seq, digest), (name or b"").decode(errors="replace")
