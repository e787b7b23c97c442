"""The journal writer: takes every request's audit record to the journal.

In the mode `buffered` no caller waits; new records form one transaction, ten times a second. In
`strict` a caller that admits or finalizes a record waits until it is on the disk; all pending
records share a transaction, so the more there are, the less each costs.

No record is dropped: one that could not be written stays pending and is tried again; of a request
only the latest state is pending. To bound them, `check_room` lets no request begin while too many
records are pending, and in strict mode while the journal fails at all.

The rules: `close` is a plain function and cannot fail, as every way out calls it. A failing journal
is logged when it begins and ends to fail, not at every attempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

import anyio
import attrs

from ollama_gateway.errors import Unavailable
from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.document import document_of, intent_of
from ollama_gateway.ledger.journal import Journal, JournalEntry, JournalError
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.ledger.retention import log_dropped
from ollama_gateway.log import get_logger
from ollama_gateway.reasons import Reason
from ollama_gateway.services import WriteBehind
from ollama_gateway.storage.batcher import Runner, in_thread

CAPACITY: Final = 10_000
"""Records that may be pending: some 10 MB."""
BATCH: Final = 1000
"""Records of one transaction."""
STRICT_SECONDS: Final = 2.0
"""Seconds that a request waits for its record to be on the disk."""
_log = get_logger("audit")


@attrs.define(eq=False)
class _PendingRecord:
    """A record whose latest state is not in the journal yet."""

    record: AuditRecord
    is_final: bool
    tried: anyio.Event | None = None
    """Set once a write has succeeded or failed; None if no caller waits."""
    is_written: bool = False

    def entry(self) -> JournalEntry:
        """Make the journal entry, late: most requests end before their intent is written."""
        document = document_of(self.record) if self.is_final else intent_of(self.record)
        return JournalEntry(self.record.request_id, document, self.is_final)


class JournalWriter:
    """Writes audit records to a journal, while `opened`.

    Args:
        journal: this process's own; it stays open for longer than this object is used.
        is_strict: whether requests that begin now wait until their records are on the disk.
        runner: runs the writes.

    """

    def __init__(self, journal: Journal, *, is_strict: bool, runner: Runner = in_thread) -> None:
        self.journal = journal
        self.is_strict = is_strict
        self._runner = runner
        self._pending: dict[str, _PendingRecord] = {}
        self._put_off: deque[JournalEntry] = deque()
        self._service = WriteBehind(
            self._write,
            JournalError,
            _log,
            fails="audit journal failing",
            works="audit journal works again",
            details=lambda: {"rows_waiting": len(self._pending)},
            is_eager=is_strict,
        )
        self._journal_in_use = anyio.Lock()

    def __repr__(self) -> str:
        return f"<JournalWriter {len(self._pending)} waiting, journal {self.failure or 'works'}>"

    def become(self, *, is_strict: bool) -> None:
        """Change the mode of requests that begin from now on."""
        self.is_strict = self._service.is_eager = is_strict

    @property
    def records_waiting(self) -> int:
        """Records that are not in the journal yet."""
        return len(self._pending)

    @property
    def failure(self) -> str | None:
        """Why the last write failed, for the log; None if it did not."""
        return self._service.failure

    @property
    def why_not(self) -> str | None:
        """Why no request can be admitted now, for the operator; None if one can."""
        if self.is_strict and self.failure is not None:
            return "the audit journal cannot be written"
        if len(self._pending) >= CAPACITY:
            return "too many audit rows wait for the journal"
        return None

    def check_room(self) -> None:
        """Raise Unavailable if the record of another request might be lost."""
        if self.why_not is not None:
            raise _unavailable()

    def refuse(self, record: AuditRecord) -> None:
        """Write later that a request was refused for `why_not`.

        Half of the room is reserved for admitted requests; beyond it, the log alone has the record.
        """
        if len(self._pending) < CAPACITY // 2:
            self._put(record, is_final=True)

    async def admit(self, record: AuditRecord) -> None:
        """Write that a request was admitted, before it goes upstream; raises Unavailable."""
        await self._submit(record, is_final=False)

    async def finalize(self, record: AuditRecord) -> None:
        """Write how a request ended, before its client learns of it; raises Unavailable."""
        await self._submit(record, is_final=True)

    def close(self, record: AuditRecord) -> None:
        """Write soon how a request ended, without waiting."""
        self._put(record, is_final=True)

    def put_off(self, entry: JournalEntry) -> None:
        """Write an entry with the next records; its journal fails now. Any thread may call this."""
        self._put_off.append(entry)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Write records for the length of the block, and the rest within 5 s after it."""
        try:
            async with self._service.opened():
                yield
        finally:
            if self._pending:
                _log.error("audit rows not written", rows=len(self._pending))

    async def write(self) -> None:
        """Write a batch of pending records. Not while the writer is `opened`."""
        await self._service.write()

    async def _write(self) -> bool:
        batch = dict(islice(self._pending.items(), BATCH))
        try:
            async with self._journal_in_use:
                await self._runner(lambda: self._commit(batch.values()))
            for request_id, pending in batch.items():
                pending.is_written = True
                if self._pending.get(request_id) is pending:
                    del self._pending[request_id]
        finally:
            for pending in batch.values():
                if pending.tried is not None:
                    pending.tried.set()
        return not self._pending

    async def drop(self, last: Link) -> None:
        """Drop a record and all before it, between two writes. Raises JournalError."""
        async with self._journal_in_use:
            await self._runner(lambda: self.journal.drop(last))

    async def trim(self, before: float) -> None:
        """Drop records that began before a moment (seconds since 1970), in steps between writes."""
        first, dropped = self.journal.checkpoint.seq + 1, 0
        try:
            while some := await self._trim(before):
                dropped += some
        except JournalError as error:
            _log.error("audit rows not trimmed", cause=str(error))
        finally:
            if dropped:
                log_dropped(
                    self.journal.path.name, dropped, (first, self.journal.checkpoint.seq), before
                )

    async def _trim(self, before: float) -> int:
        async with self._journal_in_use:
            return await self._runner(lambda: self.journal.trim(before))

    def _commit(self, batch: Iterable[_PendingRecord]) -> None:
        """Commit a batch, outside the event loop.

        A finished record does not change any more, and an intent may show any moment.
        """
        is_durable = any(pending.record.is_strict for pending in batch)
        put_off = list(self._put_off)
        entries = [*(pending.entry() for pending in batch), *put_off]
        self.journal.commit(entries, is_durable=is_durable)
        for _ in put_off:
            self._put_off.popleft()

    async def _submit(self, record: AuditRecord, *, is_final: bool) -> None:
        pending = self._put(record, is_final=is_final)
        if not record.is_strict:
            return
        pending.tried = anyio.Event()
        with anyio.move_on_after(STRICT_SECONDS):
            await pending.tried.wait()
        if not pending.is_written:
            raise _unavailable()

    def _put(self, record: AuditRecord, *, is_final: bool) -> _PendingRecord:
        self._pending[record.request_id] = pending = _PendingRecord(record, is_final)
        self._service.wake()
        return pending


@asynccontextmanager
async def write_journal(writer: JournalWriter) -> AsyncIterator[JournalWriter]:
    """Run a writer for the length of the block; write the rest within 5 s after it."""
    async with writer.opened():
        yield writer


def _unavailable() -> Unavailable:
    return Unavailable(
        "this request cannot be recorded now, try again",
        reason=Reason.AUDIT_UNAVAILABLE,
        retry_after=1,
    )
