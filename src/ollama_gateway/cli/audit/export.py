"""`gatewayctl audit export`: all records for another program, and a cursor to go on from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from ollama_gateway.cli.audit.sources import error_printer, opened, readable_in_part
from ollama_gateway.cli.audit.time_range import UntilOption, read_time_range
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption
from ollama_gateway.cli.output import count_of, print_csv, print_lines, say, say_over
from ollama_gateway.cli.remote.here_only import here_only
from ollama_gateway.ledger.change_document import CHANGE_TYPES
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.audit_log import AuditLog, merged
from ollama_gateway.ledger.read.export_cursor import PREFIX, cursor_of, reached_by
from ollama_gateway.ledger.read.filtering import EVERYTHING, Filter
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.ledger.record import RECORD_FIELDS
from ollama_gateway.settings.units import shown

SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="CURSOR|TIME",
        help="Only records after the cursor that an earlier export printed, or requests that began"
        " since a time: 7d, 12h, 2026-07-01, 2026-07-01T08:00:00Z.",
    ),
]
FormatOption = Annotated[
    Literal["jsonl", "csv"], typer.Option("--format", help="One JSON object a line, or CSV.")
]
CursorFileOption = Annotated[
    Path | None,
    typer.Option(
        "--cursor-file",
        metavar="FILE",
        help="Go on from the cursor in this file, if it exists, and write the next one into it.",
    ),
]

_COMMAND: Final = "audit export"
_FIELDS: Final = tuple(dict.fromkeys([*(field.name for field in RECORD_FIELDS), *CHANGE_TYPES]))
"""The columns of CSV: those of requests, and behind them those that only changes have."""
_STRIDE: Final = 1000
"""Records between two reports of progress."""


@here_only("reads the stores themselves", even_in_use=False)
def export(
    output_format: FormatOption = "jsonl",
    since: SinceOption = None,
    until: UntilOption = None,
    cursor_file: CursorFileOption = None,
    config: ConfigOption = None,
) -> None:
    """Print the records of all requests that ended, and of all changes by operators.

    It takes constant memory, and prints a cursor to go on from on stderr.

    An export with `--since CURSOR` prints what has arrived since, and no record a second time. If
    PostgreSQL cannot be read to the end there is no new cursor.
    """
    if cursor_file is not None and (since is not None or until is not None):
        raise typer.BadParameter("stands by itself", param_hint="--cursor-file")
    if since is not None and since.startswith(PREFIX) and until is not None:
        raise typer.BadParameter("does not go with a cursor", param_hint="--until")
    since = _read_cursor(cursor_file) if cursor_file is not None else since
    reached, wanted = _start(since, until)
    with opened(load_for_stores(config), _COMMAND) as audit_log, readable_in_part(_COMMAND):
        records = _with_progress(_records(audit_log, reached, wanted))
        if output_format == "jsonl":
            print_lines(json.dumps(_document(record)) for record in records)
        else:
            print_csv(_rows(records))
        if audit_log.is_table_away:
            error_printer(_COMMAND)("the export is incomplete, so there is no cursor to go on from")
        elif until is None:
            _tell(cursor_of(reached), cursor_file)


def _start(since: str | None, until: str | None) -> tuple[dict[str, int], Filter]:
    if since is None or not since.startswith(PREFIX):
        return {}, Filter(read_time_range(since, until), kind=None)
    try:
        return reached_by(since), EVERYTHING
    except ValueError:
        raise typer.BadParameter(f"{shown(since)} is no cursor", param_hint="--since") from None


def _records(
    audit_log: AuditLog, reached: dict[str, int], wanted: Filter
) -> Iterator[StoredRecord]:
    """Yield the records after those that were reached, and note at the end how far that went."""
    segments = audit_log.segments()
    for segment in segments:
        segment.after = reached.get(segment.identity, 0)
    yield from merged(segments, wanted)
    for segment in segments:
        reached[segment.identity] = max(segment.after, reached.get(segment.identity, 0))


def _with_progress(records: Iterable[StoredRecord]) -> Iterator[StoredRecord]:
    number = 0
    for number, record in enumerate(records, 1):
        if number % _STRIDE == 0:
            say_over(f"{count_of(number, 'record')} exported")
        yield record
    say_over("")


def _document(record: StoredRecord) -> Document:
    """Return a record with its kind."""
    return {**record.document, "kind": record.kind}


def _rows(records: Iterable[StoredRecord]) -> Iterator[Iterable[str | float | None]]:
    yield _FIELDS
    for record in records:
        document = _document(record)
        yield [_cell(document.get(name)) for name in _FIELDS]


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return value


def _read_cursor(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            f"{shown(str(path))} cannot be read", param_hint="--cursor-file"
        ) from error


def _tell(cursor: str, path: Path | None) -> None:
    """Print the cursor, or write it into a file, whole or not at all."""
    if path is None:
        say(f"cursor: {cursor}", err=True)
        return
    new = path.with_name(f"{path.name}.new")
    new.write_text(f"{cursor}\n", encoding="utf-8")
    new.replace(path)
