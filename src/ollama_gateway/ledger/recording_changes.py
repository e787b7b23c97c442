"""Recorders of operators' changes (`ChangeRecorder`): in a gateway's own journal, and in commands.

A change is written as an intent, on the disk, before it is made, and as a finished record of the
chain once it has ended. So a process that is killed in between leaves the intent, and the next
owner of the journal records that the end is unknown. All methods block.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import attrs

from ollama_gateway.ledger.document import ChangeOutcome, Document, begun, ended
from ollama_gateway.ledger.journal import Journal, JournalEntry, JournalError
from ollama_gateway.ledger.operator_change import ChangeNotRecorded, OperatorChange
from ollama_gateway.ledger.ownership import own_commands_journal


@attrs.frozen
class JournalChanges:
    """Records changes in a journal that this process owns, from any thread."""

    journal: Journal
    put_off: Callable[[JournalEntry], None]
    """Takes the end of a change that could not be written now."""

    def making(self, change: OperatorChange) -> AbstractContextManager[None]:
        """Return the block in which a change is made; see `ChangeRecorder`."""
        return self.making_all([change])

    @contextmanager
    def making_all(self, changes: Sequence[OperatorChange]) -> Iterator[None]:
        """Return the block in which several changes are made, all or none."""
        documents = [begun(change, secrets.token_hex(16)) for change in changes]
        try:
            self.journal.commit([_entry(one, is_final=False) for one in documents])
        except JournalError as error:
            raise _not_recorded(error) from error
        outcome: ChangeOutcome = "unknown"
        try:
            yield
            outcome = "made"
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._end(
                [
                    ended(document, change, outcome)
                    for document, change in zip(documents, changes, strict=True)
                ]
            )

    def _end(self, documents: Sequence[Document]) -> None:
        entries = [_entry(one, is_final=True) for one in documents]
        try:
            self.journal.commit(entries)
        except JournalError:
            for entry in entries:
                self.put_off(entry)


@attrs.frozen
class LocalChanges:
    """Records changes that a command makes on this machine's stores, beside running gateways."""

    directory: Path
    """That holds the journals; is made if missing."""
    key: bytes = attrs.field(repr=False)
    """Of the chain."""

    def making(self, change: OperatorChange) -> AbstractContextManager[None]:
        """Return the block in which a change is made; see `ChangeRecorder`."""
        return self.making_all([change])

    @contextmanager
    def making_all(self, changes: Sequence[OperatorChange]) -> Iterator[None]:
        """Return the block in which several changes are made, all or none."""
        with ExitStack() as stack:
            try:
                journal = stack.enter_context(own_commands_journal(self.directory, key=self.key))
            except JournalError as error:
                raise _not_recorded(error) from error
            # An end that cannot be written now is recorded as unknown by the next owner.
            stack.enter_context(JournalChanges(journal, lambda _: None).making_all(changes))
            yield


def _not_recorded(error: Exception) -> ChangeNotRecorded:
    """Return the error of a change that was not made for want of a record."""
    return ChangeNotRecorded(f"nothing was changed, as no record can be written: {error}")


def _entry(document: Document, *, is_final: bool) -> JournalEntry:
    return JournalEntry(document["change_id"], document, is_final)
