"""Records of changes that commands make on the stores of this machine.

Commands that change nothing do not import this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ollama_gateway.cli.output import exit_with
from ollama_gateway.ledger.operator_change import ChangeNotRecorded
from ollama_gateway.ledger.recording_changes import LocalChanges
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings


@contextmanager
def local_changes(settings: Settings, command: str) -> Iterator[LocalChanges]:
    """Yield the recorder that writes into the audit log of these settings' `data_dir`.

    Ends the command with code 1 if a change cannot be recorded; then it was not made.
    """
    secret = settings.audit.chain_key
    key = secret.reveal().encode() if secret else b""
    try:
        yield LocalChanges(settings.storage.data_dir, key)
    except ChangeNotRecorded as error:
        exit_with(1, f"{command}: {printable(str(error))}")
