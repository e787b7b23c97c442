"""The trail: every request's row on its way into the journal.

`buffered`: nobody waits; what has come is one transaction, ten times a second. `strict`: whoever
admits or seals a row waits until it is on the disk; all that wait share a transaction, so the more
there are, the less each costs.

Nothing is dropped: what could not be written stays, and is tried again; of a request only the
latest state waits. So what waits is bounded by letting no request begin while too much does
(`check_room`), and in strict mode while the journal fails at all.

The rules: `close` is a plain function and cannot fail, as it stands on every way out. A failing
journal is logged at its turns, not at every attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

import anyio
import attrs

from ollama_gateway.errors import Unavailable
from ollama_gateway.ledger.chain import Link
from ollama_gateway.ledger.document import document_of, intent_of, to_text
from ollama_gateway.ledger.journal import Entry, Journal, JournalError
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.ledger.retention import log_dropped
from ollama_gateway.log import get_logger
from ollama_gateway.services import running
from ollama_gateway.storage.batcher import Runner, in_thread

CAPACITY: Final = 10_000
"""Rows that may wait to be written: some 10 MB."""
BATCH: Final = 1000
"""Rows of one transaction."""
SHORTEST: Final = 0.1
"""Seconds between the beginnings of two writes, where nobody waits for them."""
LONGEST: Final = 1.0
"""The same while they fail: doubled with each, up to this."""
PATIENCE: Final = 2.0
"""Seconds that a request waits for its row to be on the disk."""
CLOSING: Final = 5.0
"""Seconds at the end for what was not written yet."""

_log = get_logger("audit")


@attrs.define(eq=False)
class _Waiting:
    """A row whose latest state is not in the journal yet."""

    record: AuditRecord
    is_final: bool
    tried: anyio.Event | None = None
    """Set once a write of it has succeeded or failed; where somebody waits for that."""
    is_written: bool = False

    def entry(self) -> Entry:
        """What is written, made late: most intents are over before they are written."""
        document = document_of(self.record) if self.is_final else intent_of(self.record)
        return Entry(self.record.request_id, to_text(document), self.is_final)


class JournalWriter:
    """Writes rows into a journal; `run` is the keeper's task.

    Args:
        journal: this process's own, open for longer than this object is used.
        is_strict: whether whoever hands in a row waits until it is on the disk.
        runner: where writing runs.

    """

    def __init__(self, journal: Journal, *, is_strict: bool, runner: Runner = in_thread) -> None:
        self.journal = journal
        self.is_strict = is_strict
        self._runner = runner
        self._waiting: dict[str, _Waiting] = {}
        self._stirred = anyio.Event()
        self._failure: str | None = None
        self._journal_in_use = anyio.Lock()

    def __repr__(self) -> str:
        return f"<Trail {len(self._waiting)} waiting, journal {self._failure or 'works'}>"

    @property
    def rows_waiting(self) -> int:
        """Rows that are not in the journal yet."""
        return len(self._waiting)

    @property
    def failure(self) -> str | None:
        """Why the last write failed, for the log; None where it did not."""
        return self._failure

    @property
    def why_not(self) -> str | None:
        """What keeps a request from being admitted now, for the operator."""
        if self.is_strict and self._failure is not None:
            return "the audit journal cannot be written"
        if len(self._waiting) >= CAPACITY:
            return "too many audit rows wait for the journal"
        return None

    def check_room(self) -> None:
        """Raise Unavailable where the row of another request might be lost."""
        if self.why_not is not None:
            raise _unavailable()

    def refuse(self, record: AuditRecord) -> None:
        """Write that a request was refused for `why_not`, once that is over.

        Half of the room is for those that were let in: then such a row is in the log alone.
        """
        if len(self._waiting) < CAPACITY // 2:
            self._put(record, is_final=True)

    async def admit(self, record: AuditRecord) -> None:
        """Write that a request was admitted, before it goes upstream; raises Unavailable."""
        await self._hand_in(record, is_final=False)

    async def finalize(self, record: AuditRecord) -> None:
        """Write how a request ended, before its client learns of it; raises Unavailable."""
        await self._hand_in(record, is_final=True)

    def close(self, record: AuditRecord) -> None:
        """Write how a request ended, soon; nobody waits."""
        self._put(record, is_final=True)

    async def run(self) -> None:
        """Write what is handed in until cancelled: the keeper's task, started once."""
        pause = SHORTEST
        while True:
            await self._stirred.wait()
            began = anyio.current_time()
            await self.write()
            if self._failure is not None:
                pause = min(2 * pause, LONGEST)
                await anyio.sleep_until(began + pause)
            elif not self.is_strict:
                pause = SHORTEST
                await anyio.sleep_until(began + pause)

    async def write(self) -> None:
        """Write a batch of what waits. Not while `run` runs."""
        batch = dict(islice(self._waiting.items(), BATCH))
        try:
            async with self._journal_in_use:
                await self._runner(lambda: self._commit(batch.values()))
        except JournalError as error:  # they stay, and those who wait are told
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - the same: nobody else would write them
            self._note(f"{type(error).__name__}: {error}")
        else:
            self._note(None)
            for request_id, waiting in batch.items():
                waiting.is_written = True
                if self._waiting.get(request_id) is waiting:
                    del self._waiting[request_id]
        finally:
            for waiting in batch.values():
                if waiting.tried is not None:
                    waiting.tried.set()
        if not self._waiting:
            self._stirred = anyio.Event()

    async def drop(self, last: Link) -> None:
        """Drop a row and all before it, between two writes. Raises JournalError."""
        async with self._journal_in_use:
            await self._runner(lambda: self.journal.drop(last))

    async def trim(self, before: float) -> None:
        """Drop rows that began before a moment (seconds since 1970), some between two writes."""
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

    async def drain(self) -> None:
        """Write all that waits, as far as the journal takes it. Not while `run` runs."""
        while self._waiting:
            await self.write()
            if self._failure is not None:
                return

    def _commit(self, batch: Iterable[_Waiting]) -> None:
        """Beside the event loop: a row that has ended changes no more, and of one that has not any
        moment will do.
        """
        self.journal.commit([waiting.entry() for waiting in batch])

    async def _hand_in(self, record: AuditRecord, *, is_final: bool) -> None:
        waiting = self._put(record, is_final=is_final)
        if not self.is_strict:
            return
        waiting.tried = anyio.Event()
        with anyio.move_on_after(PATIENCE):
            await waiting.tried.wait()
        if not waiting.is_written:
            raise _unavailable()

    def _put(self, record: AuditRecord, *, is_final: bool) -> _Waiting:
        self._waiting[record.request_id] = waiting = _Waiting(record, is_final)
        self._stirred.set()
        return waiting

    def _note(self, failure: str | None) -> None:
        if failure is not None and self._failure is None:
            _log.error("audit journal failing", cause=failure, rows_waiting=len(self._waiting))
        if failure is None and self._failure is not None:
            _log.info("audit journal works again", rows_waiting=len(self._waiting))
        self._failure = failure


@asynccontextmanager
async def write_journal(writer: JournalWriter) -> AsyncIterator[JournalWriter]:
    """A trail at work for the length of the block; what waits at its end is written within 5 s."""
    try:
        async with running(writer.run):
            yield writer
    finally:
        with anyio.move_on_after(CLOSING, shield=True):
            await writer.drain()
        if writer.rows_waiting:
            _log.error("audit rows not written", rows=writer.rows_waiting)


def _unavailable() -> Unavailable:
    return Unavailable(
        "this request cannot be recorded now, try again", reason="audit_unavailable", retry_after=1
    )
