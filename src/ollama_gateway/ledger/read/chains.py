"""Whether the trail of a fleet is as it was written: chains that go from PostgreSQL into journals.

A chain is followed from the anchor that retention has left in PostgreSQL, through the rows that
came there, into the journal on this machine, if it is here. Of what lies before the anchor nothing
can be said. Rows move on while this reads; what is asked first, and why none is missed, is in
`joined.py`.

What PostgreSQL has of a row in columns must be what its document says: the chain covers the
document, and people filter and sum by the columns.
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
    Checked,
    JournalState,
    Progress,
    check,
    counted,
    identity_of,
    links_after,
    state_of,
)

PAGE: Final = 2000


@attrs.frozen
class Chain:
    """One journal, wherever its rows are."""

    identity: str
    path: Path | None
    """Where the part is that is on this machine."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.name if self.path else self.identity


@attrs.frozen
class Chains:
    """The chains that can be followed from here.

    Args:
        paths: of the journals on this machine.
        key: of the chains; empty for none.
        sought: the hash of a row, noted elsewhere.
        progress: by the name of a chain, what is told how many rows were followed.

    """

    paths: Sequence[Path]
    key: bytes = attrs.field(repr=False)
    expected_head: bytes = b""
    progress: Callable[[str], Progress] = lambda _: lambda _: None

    def local(self) -> list[Checked]:
        """Follow journals, as if there were nothing else."""
        return [self._local(path) for path in self.paths]

    def joined(self, records: AuditTableReader) -> list[Checked]:
        """Follow journals, and all that is or was in PostgreSQL. Raises DatabaseError."""
        stored = records.journals()
        chains = [Chain(_identity(path), path) for path in self.paths]
        known = {chain.identity for chain in chains}
        names = sorted({*stored, *records.checkpoints()} - known)
        chains += [Chain(name, None) for name in names]
        return [
            self._joined(records, chain, is_stored=chain.identity in stored) for chain in chains
        ]

    def _local(self, path: Path) -> Checked:
        return check(path, self.key, self.expected_head, self.progress(path.name))

    def _joined(self, records: AuditTableReader, chain: Chain, *, is_stored: bool) -> Checked:
        if chain.path and not chain.identity:
            return self._local(chain.path)
        while True:
            known = records.checkpoints().get(chain.identity)
            start = Checkpoint() if is_stored else None
            try:
                checked = self._followed(records, chain, known or start)
            except JournalError as error:
                return Checked(chain.name, chain.identity, error=str(error))
            if checked.is_ok or records.checkpoints().get(chain.identity) == known:
                return checked  # else retention has dropped the rows that were missing

    def _followed(
        self, records: AuditTableReader, chain: Chain, start: Checkpoint | None
    ) -> Checked:
        start = start or _local_state(chain).checkpoint
        cursor = JournalCursor(
            start.seq or -MAX_INT64
        )  # somebody may have put rows before the first
        walk = walked(cursor, partial(_local, chain), partial(_stored, records, chain), _place)
        head, fault = verify(start, counted(walk, self.progress(chain.name)), self.key)
        local = _local_state(chain, self.expected_head)
        return Checked(
            chain.name,
            chain.identity,
            local.records + records.count(chain.identity, start.seq, _end(chain, local)),
            start,
            head,
            start.seq,
            fault or _before_checkpoint(local),
            has_expected_head=local.has_expected_head
            or records.has(chain.identity, self.expected_head),
        )


def _identity(path: Path) -> str:
    """Nothing for one that cannot be read: it is checked by itself, which says why."""
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


def _stored(records: AuditTableReader, chain: Chain, after: int, upto: int) -> list[Link]:
    return [_faithful(copy) for copy in records.copies(chain.identity, after, upto, PAGE)]


def _end(chain: Chain, local: JournalState) -> int:
    """Up to where rows are in PostgreSQL alone."""
    return local.checkpoint.seq if chain.path else MAX_INT64


def _before_checkpoint(local: JournalState) -> ChainFault | None:
    """A row that was put where none can be any more."""
    if local.first is None or local.first.seq > local.checkpoint.seq:
        return None
    return ChainFault(local.first.seq, local.first.request_id, "reordered")


def _faithful(copy: TableRecord) -> Link:
    """The row; with a text that no row has where its columns say something else than its text."""
    _, began, *rest = copy.columns
    _, moment, *meant = values_of(copy.columns[2], copy.link)
    if rest == meant and began == _shown(moment):
        return copy.link
    return attrs.evolve(copy.link, document="")


def _shown(moment: datetime) -> str:
    """As `StoredRows.copies` has it."""
    with suppress(OverflowError):
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def _place(record: Link) -> int:
    return record.seq
