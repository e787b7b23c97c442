"""Records of changes that commands make on the stores of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import attrs

from ollama_gateway.cli.output import exit_with
from ollama_gateway.ledger.operator_change import (
    ChangeNotRecorded,
    ChangeRecorder,
    OperatorChange,
)
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings


@contextmanager
def local_changes(settings: Settings, command: str) -> Iterator[ChangeRecorder]:
    """Yield the recorder that writes into the audit log of these settings' `data_dir`.

    Ends the command with code 1 if a change cannot be recorded; then it was not made.
    """
    try:
        yield _LocalRecorder(settings)
    except ChangeNotRecorded as error:
        exit_with(1, f"{command}: {printable(str(error))}")


@attrs.frozen
class _LocalRecorder:
    """Imports what writes records with the first one: commands that change nothing need it not."""

    settings: Settings

    def making(self, change: OperatorChange) -> AbstractContextManager[None]:
        """Return the block in which a change is made."""
        return self.making_all([change])

    def making_all(self, changes: Sequence[OperatorChange]) -> AbstractContextManager[None]:
        """Return the block in which several changes are made, all or none."""
        from ollama_gateway.ledger.recording_changes import LocalChanges  # noqa: PLC0415

        secret = self.settings.audit.chain_key
        key = secret.reveal().encode() if secret else b""
        return LocalChanges(self.settings.storage.data_dir, key).making_all(changes)
