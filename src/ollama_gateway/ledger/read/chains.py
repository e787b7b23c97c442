"""Verifies the audit log of a fleet: follows each chain from PostgreSQL into the journal.

A chain is followed from the checkpoint that retention has left in PostgreSQL, through the records
there, into the journal, if that is on this machine. Records before the checkpoint cannot be
verified. Records move on while this reads; `joined.py` says why none is missed.

The columns of a record in PostgreSQL must agree with its document: the chain covers the document,
and queries filter and sum by the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.ledger.chain import ChainFault, Checkpoint, Link, verify
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.postgres import values_of
from ollama_gateway.ledger.read.joined import JournalCursor, walked
from ollama_gateway.ledger.read.records import MAX_INT64
from ollama_gateway.ledger.read.stored import AuditTableReader, TableRecord
from ollama_gateway.ledger.read.verifying import (
    ChainReport,
    JournalState,
    Progress,
    check,
    identity_of,
    links_after,
    state_of,
    with_progress,
)

PAGE: Final = 2000


@attrs.frozen
class Chain:
    """One journal, wherever its records are."""

    identity: str
    path: Path | None
    """The file of the part on this machine; None if there is none."""

    @property
    def name(self) -> str:
        """The name to show."""
        return self.path.name if self.path else self.identity


@attrs.frozen
class Chains:
    """The chains that can be followed from here.

    Args:
        paths: of the journals on this machine.
        key: of the chains; empty for none.
        expected_head: the hash of a record, noted elsewhere; empty for none.
        progress: returns the progress callback for the name of a chain.

    """

    paths: Sequence[Path]
    key: bytes = attrs.field(repr=False)
    expected_head: bytes = b""
    progress: Callable[[str], Progress] = lambda _: lambda _: None

    def local(self) -> list[ChainReport]:
        """Follow the journals alone."""
        return [self._local(path) for path in self.paths]

    def joined(self, table: AuditTableReader) -> list[ChainReport]:
        """Follow the journals, and every chain in PostgreSQL. Raises DatabaseError."""
        stored = table.journals()
        chains = [Chain(_identity(path), path) for path in self.paths]
        known = {chain.identity for chain in chains}
        names = sorted({*stored, *table.checkpoints()} - known)
        chains += [Chain(name, None) for name in names]
        return [self._joined(table, chain, is_stored=chain.identity in stored) for chain in chains]

    def _local(self, path: Path) -> ChainReport:
        return check(path, self.key, self.expected_head, self.progress(path.name))

    def _joined(self, table: AuditTableReader, chain: Chain, *, is_stored: bool) -> ChainReport:
        if chain.path and not chain.identity:
            return self._local(chain.path)
        while True:
            known = table.checkpoints().get(chain.identity)
            start = Checkpoint() if is_stored else None
            try:
                checked = self._followed(table, chain, known or start)
            except JournalError as error:
                return ChainReport(chain.name, chain.identity, error=str(error))
            if checked.is_ok or table.checkpoints().get(chain.identity) == known:
                return checked  # else retention has dropped the missing records meanwhile

    def _followed(
        self, table: AuditTableReader, chain: Chain, start: Checkpoint | None
    ) -> ChainReport:
        start = start or _local_state(chain).checkpoint
        # An edited table may have records before the first.
        cursor = JournalCursor(start.seq or -MAX_INT64)
        walk = walked(cursor, partial(_local, chain), partial(_stored, table, chain), _seq_of)
        head, fault = verify(start, with_progress(walk, self.progress(chain.name)), self.key)
        local = _local_state(chain, self.expected_head)
        return ChainReport(
            chain.name,
            chain.identity,
            local.records + table.count(chain.identity, start.seq, _end(chain, local)),
            start,
            head,
            start.seq,
            fault or _before_checkpoint(local),
            has_expected_head=local.has_expected_head
            or table.has(chain.identity, self.expected_head),
        )


def _identity(path: Path) -> str:
    """Return the identity; "" if the journal cannot be read, which its own check reports."""
    with suppress(JournalError):
        return identity_of(path)
    return ""


def _local_state(chain: Chain, expected_head: bytes = b"") -> JournalState:
    return state_of(chain.path, expected_head) if chain.path else JournalState()


def _local(chain: Chain, after: int) -> tuple[int, list[Link]]:
    if chain.path is None:
        return 0, []
    checkpoint, links = links_after(chain.path, after, PAGE)
    return checkpoint.seq, links


def _stored(table: AuditTableReader, chain: Chain, after: int, upto: int) -> list[Link]:
    return [_faithful(record) for record in table.table_records(chain.identity, after, upto, PAGE)]


def _end(chain: Chain, local: JournalState) -> int:
    """Return the seq up to which records are in PostgreSQL alone."""
    return local.checkpoint.seq if chain.path else MAX_INT64


def _before_checkpoint(local: JournalState) -> ChainFault | None:
    """Return the fault of a record at or before the checkpoint, where none can be any more."""
    if local.first is None or local.first.seq > local.checkpoint.seq:
        return None
    return ChainFault(local.first.seq, local.first.request_id, "reordered")


def _faithful(record: TableRecord) -> Link:
    """Return the link; with an empty text, which cannot verify, if the columns contradict it."""
    _, began, *rest = record.columns
    _, moment, *meant = values_of(record.columns[2], record.link)
    if rest == meant and began == _shown(moment):
        return record.link
    return attrs.evolve(record.link, document="")


def _shown(moment: datetime) -> str:
    """Return the moment as `AuditTableReader.table_records` has it."""
    with suppress(OverflowError):
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def _seq_of(record: Link) -> int:
    return record.seq
