"""Verifies the audit log: follows each chain from PostgreSQL into the journal on this machine.

A chain is followed from the journal's checkpoint, or with PostgreSQL from the one that retention
has left there, through the records there, into the journal, if that is on this machine. Records
before the checkpoint cannot be verified. Records move on while this reads; `segment.py` says why
none is missed.

The columns beside a document must agree with it: the chain covers the document, and queries filter
and sum by the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from ollama_gateway.ledger.chain import ChainFault, Checkpoint, Link, verify
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.read.journal_reader import JournalReader, JournalState
from ollama_gateway.ledger.read.page import MAX_INT64, Page
from ollama_gateway.ledger.read.segment import walked
from ollama_gateway.ledger.read.stored import AuditTableReader

PAGE: Final = 2000
STRIDE: Final = 20_000
"""Records between two reports of progress."""

Progress = Callable[[int], None]


@attrs.frozen
class ChainReport:
    """The result of following one chain."""

    journal: str
    """The journal's file name; its identity if it is in PostgreSQL alone."""
    identity: str = ""
    """The journal's identity, the same wherever its records are."""
    records: int = 0
    """How many records are there."""
    checkpoint: Checkpoint = attrs.field(factory=Checkpoint)
    """The record before the first."""
    head: Checkpoint = attrs.field(factory=Checkpoint)
    """The last record up to which the chain holds."""
    dropped: int = 0
    """Records up to the checkpoint, dropped for their age, which cannot be verified."""
    fault: ChainFault | None = None
    """The first record at which it does not hold."""
    error: str | None = None
    """Why it cannot be read."""
    has_expected_head: bool = False
    """Whether the record with the expected hash is there."""

    @property
    def is_ok(self) -> bool:
        """Whether the chain was read and holds."""
        return self.fault is None and self.error is None

    @property
    def fails_at_once(self) -> bool:
        """Whether not even the first record holds, as with a wrong key."""
        return self.fault is not None and self.fault.seq == self.checkpoint.seq + 1


@attrs.frozen
class Chains:
    """The chains that can be followed from here.

    Args:
        paths: of the journals on this machine.
        key: of the chains; empty for none.
        expected_head: the hash of a record, noted elsewhere; empty for none.
        progress: returns the callback that is called from time to time with the number of records
            followed, for the name of a chain.

    """

    paths: Sequence[Path]
    key: bytes = attrs.field(repr=False)
    expected_head: bytes = b""
    progress: Callable[[str], Progress] = lambda _: lambda _: None

    def local(self) -> list[ChainReport]:
        """Follow the journals alone; a million records take some twenty seconds."""
        return [self._report(JournalReader(path), "", None) for path in self.paths]

    def joined(self, table: AuditTableReader) -> list[ChainReport]:
        """Follow the journals, and every chain in PostgreSQL. Raises DatabaseError."""
        reports = [self._report(JournalReader(path), "", table) for path in self.paths]
        known = {report.identity for report in reports}
        others = sorted({*table.journals(), *table.checkpoints()} - known)
        return [*reports, *(self._report(None, name, table) for name in others)]

    def _report(
        self, local: JournalReader | None, identity: str, table: AuditTableReader | None
    ) -> ChainReport:
        """Follow one chain, again if retention has dropped records meanwhile."""

        def start() -> Checkpoint | None:
            if table:
                return table.checkpoints().get(identity)
            return local.checkpoint()[0] if local else None

        try:
            identity = local.checkpoint()[1] if local else identity
            while True:
                known = start()
                report = self._followed(local, identity, table, known)
                if report.is_ok or start() == known:
                    return report
        except JournalError as error:
            assert local is not None  # noqa: S101 - only a file raises it
            return ChainReport(local.path.name, identity, error=str(error))

    def _followed(
        self,
        local: JournalReader | None,
        identity: str,
        table: AuditTableReader | None,
        start: Checkpoint | None,
    ) -> ChainReport:
        end = table.last(identity) if table and identity else 0
        if start is None:
            start = local.checkpoint()[0] if local and not end else Checkpoint()
        # An edited file or table may have records before the first.
        first = start.seq if table and start.seq else -MAX_INT64
        links = _local if table else _alone
        pages = walked(first, end, partial(links, local), partial(_stored, table, identity))
        name = local.path.name if local else identity
        head, fault = verify(start, self._counted(name, pages), self.key)
        state = local.state(self.expected_head) if local else JournalState()
        upto = state.checkpoint.seq if local else MAX_INT64
        return ChainReport(
            name,
            identity,
            state.records + (table.count(identity, start.seq, upto) if table else 0),
            start,
            head,
            start.seq,
            fault or _before_checkpoint(state) or _stray(state),
            has_expected_head=state.has_expected_head
            or bool(table and table.has(identity, self.expected_head)),
        )

    def _counted(self, name: str, pages: Iterator[Page[Link]]) -> Iterator[Link]:
        """Yield the links of pages, and report progress."""
        report, number = self.progress(name), 0
        for page in pages:
            for record in page.items:
                number += 1
                if number % STRIDE == 0:
                    report(number)
                yield record


def _local(local: JournalReader | None, after: int) -> Page[Link]:
    return local.links(after, PAGE) if local else Page()


def _alone(local: JournalReader | None, after: int) -> Page[Link]:
    """Return the same of a journal without PostgreSQL: also records before its checkpoint."""
    return attrs.evolve(_local(local, after), checkpoint=after)


def _stored(table: AuditTableReader | None, identity: str, after: int, upto: int) -> Page[Link]:
    return table.links(identity, after, upto, PAGE) if table else Page(upto=upto)


def _before_checkpoint(state: JournalState) -> ChainFault | None:
    """Return the fault of a record at or before the checkpoint, where none can be any more."""
    if state.first is None or state.first.seq > state.checkpoint.seq:
        return None
    return ChainFault(state.first.seq, state.first.request_id, "reordered")


def _stray(state: JournalState) -> ChainFault | None:
    """Return the fault of facts without a record."""
    return None if state.stray is None else ChainFault(state.stray, "", "stray")
