"""Move this machine's audit records into PostgreSQL, for `gatewayctl db import-local`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import attrs

from ollama_gateway.cli.output import count_of, exit_with, say
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.moving import move
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.journal_reader import paths_in
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.database import DatabaseError


@attrs.define
class Moved:
    """The result for all journals."""

    records: dict[str, int] = attrs.field(factory=dict)
    """The number of records moved, by journal."""
    owned: list[str] = attrs.field(factory=list)
    """Journals of running gateways, which move their records themselves."""
    faults: list[str] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the result for programs."""
        return {"rows": sum(self.records.values()), "left_to_gateways": self.owned}


def journals_in(settings: Settings) -> Sequence[Path]:
    """Return the paths of this machine's journals; exit with code 1 if they cannot be listed."""
    try:
        return paths_in(settings.storage.data_dir)
    except JournalError as error:
        exit_with(1, f"gatewayctl db: {printable(str(error))}")


def move_records(settings: Settings, paths: Sequence[Path]) -> Moved:
    """Move the records of unowned journals, and note the others."""
    url, secret = settings.storage.database_url, settings.audit.chain_key
    assert url is not None  # noqa: S101 - the caller checked it
    key = secret.reveal().encode() if secret else b""
    moved = Moved()
    # A journal of an older schema is migrated first, and the log tells; stdout is for the result.
    with closing(AuditTable(url.reveal())) as table, redirect_stdout(sys.stderr):
        for path in paths:
            try:
                _note(moved, path.name, move(path, table, key))
            except JournalError as error:
                moved.faults.append(str(error))
            except DatabaseError as error:
                moved.faults.append(str(error))
                break
    return moved


def print_moved(moved: Moved) -> None:
    """Print the result for people."""
    records = sum(moved.records.values())
    journals = count_of(len(moved.records), "journal")
    say(f"moved {count_of(records, 'audit record')} from {journals}")
    for name in moved.owned:
        say(f"{printable(name)} belongs to a running gateway, which moves its records itself")


def _note(moved: Moved, name: str, records: int | None) -> None:
    if records is None:
        moved.owned.append(name)
    else:
        moved.records[name] = records
