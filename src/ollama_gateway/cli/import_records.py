"""What of the trail `gatewayctl db import-local` moves from this machine into PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import typer

from ollama_gateway.cli.output import say
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.moving import move
from ollama_gateway.ledger.postgres import AuditTable
from ollama_gateway.ledger.read.journals import paths_in
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.database import DatabaseError


@attrs.define
class Moved:
    """What became of the journals."""

    rows: dict[str, int] = attrs.field(factory=dict)
    """How many rows were moved, by journal."""
    owned: list[str] = attrs.field(factory=list)
    """Journals that running gateways own; these move their rows themselves."""
    faults: list[str] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {"rows": sum(self.rows.values()), "left_to_gateways": self.owned}


def journals_in(settings: Settings) -> Sequence[Path]:
    """The journals of this machine; exit code 1 where nobody can say."""
    try:
        return paths_in(settings.storage.data_dir)
    except JournalError as error:
        say(f"gatewayctl db: {printable(str(error))}", err=True)
        raise typer.Exit(1) from None


def move_records(settings: Settings, paths: Sequence[Path]) -> Moved:
    """Move the rows of journals that nobody owns; the others are named."""
    url, secret = settings.storage.database_url, settings.audit.chain_key
    assert url is not None  # noqa: S101 - the caller saw to it
    key = secret.reveal().encode() if secret else b""
    moved = Moved()
    with closing(AuditTable(url.reveal())) as table:
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
    """For a person."""
    rows = sum(moved.rows.values())
    say(f"moved {rows:,} rows of the audit trail from {len(moved.rows)} journals")
    for name in moved.owned:
        say(f"{printable(name)} belongs to a running gateway, which moves its rows itself")


def _note(moved: Moved, name: str, rows: int | None) -> None:
    if rows is None:
        moved.owned.append(name)
    else:
        moved.rows[name] = rows
