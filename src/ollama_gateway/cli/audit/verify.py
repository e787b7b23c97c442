"""`gatewayctl audit verify`: follows the chains of the journals, on into PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any, Final

import attrs
import typer

from ollama_gateway.cli.audit.sources import error_printer, place_of, report_no_journals
from ollama_gateway.cli.audit.verify_sums import verify_sums
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import count_of, print_json, print_table, say_over
from ollama_gateway.cli.remote.here_only import here_only
from ollama_gateway.cli.table import Column, Row
from ollama_gateway.ledger.chain import GENESIS, Checkpoint
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.read.journal_reader import paths_in
from ollama_gateway.ledger.read.reporting import ReportFault
from ollama_gateway.ledger.read.verifying import ChainReport, Chains, Progress
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.database import DatabaseError

HeadOption = Annotated[
    str | None,
    typer.Option(
        "--head", metavar="HASH", help="A head from the gateway's log; it must still be there."
    ),
]
SumsOption = Annotated[
    bool,
    typer.Option("--sums", help="Compare the daily sums in PostgreSQL with the records instead."),
]

_COMMAND: Final = "audit verify"
_COLUMNS: Final = (
    Column("journal"),
    Column("rows", 1, is_number=True),
    Column("from", 2, is_number=True),
    Column("to", 3, is_number=True),
    Column("head", 4),
    Column("chain", is_prose=True),
)


@here_only("checks the files themselves: a gateway cannot prove its own records")
def verify(
    head: HeadOption = None,
    sums: SumsOption = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Follow the chain of every journal, and name the first record that was changed.

    The head is the hash in the log's lines `audit head` (see docs/operate/audit.md).
    """
    expected_head = _read_head(head)
    settings = load_for_stores(config)
    if sums:
        verify_sums(settings, as_json=as_json)
    faults: list[str] = []
    found = _check(settings, expected_head, faults.append)
    if as_json:
        print_json([_as_json(checked) for checked in found])
    elif found:
        print_table(_COLUMNS, [_cells(checked) for checked in found], wide=wide)
    faults += [_fault_of(checked) for checked in found if not checked.is_ok]
    if _looks_like_a_wrong_key(found):
        given = "is set" if settings.audit.chain_key else "is not set"
        faults.append(
            f"no journal holds even at its first record: audit.chain_key {given} here, is it the"
            " gateway's?"
        )
    if expected_head and not any(checked.has_expected_head for checked in found):
        faults.append("no journal has a record with this hash: it was cut off, or is too old")
    for fault in faults:
        error_printer(_COMMAND)(fault)
    raise typer.Exit(1 if faults else 0)


def _read_head(text: str | None) -> bytes:
    if text is None:
        return b""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != len(GENESIS):
        raise typer.BadParameter("is not the hash of a record: 64 hex digits", param_hint="--head")
    return digest


def _check(settings: Settings, expected_head: bytes, report: ReportFault) -> list[ChainReport]:
    secret = settings.audit.chain_key
    key = secret.reveal().encode() if secret else b""
    try:
        paths = paths_in(settings.storage.data_dir)
    except JournalError as error:
        error_printer(_COMMAND)(str(error))
        raise typer.Exit(1) from None
    found = _followed(settings, Chains(paths, key, expected_head, _progress), report)
    say_over("")
    if not found:
        report_no_journals(settings, _COMMAND)
    return found


def _followed(settings: Settings, chains: Chains, report: ReportFault) -> list[ChainReport]:
    """Follow the journals, and PostgreSQL if the settings name one that can be reached."""
    if records := place_of(settings).table_reader():
        try:
            with closing(records):
                return chains.joined(records)
        except DatabaseError as error:
            report(str(error))
            # Records that moved look as if they were dropped.
            return [attrs.evolve(one, dropped=0) for one in chains.local()]
    return chains.local()


def _progress(journal: str) -> Progress:
    """Show progress in a line that the next one overwrites."""
    name = printable(journal)
    return lambda records: say_over(f"{name}: {count_of(records, 'record')} followed")


def _looks_like_a_wrong_key(found: Sequence[ChainReport]) -> bool:
    filled = [checked for checked in found if checked.records]
    return bool(filled) and all(checked.fails_at_once for checked in filled)


_FAULTS: Final = {
    "altered": "record {} (request {}) was altered",
    "missing": "records before record {} (request {}) are missing",
    "reordered": "record {} (request {}) is not where it was",
    "columns": "record {} (request {}) has columns that contradict its document",
    "stray": "columns say that there was a record {}, and it is not there",
}


def _fault_of(checked: ChainReport) -> str:
    if checked.fault is None:
        return str(checked.error)
    fault = checked.fault
    words = _FAULTS[fault.reason].format(fault.seq, printable(fault.request_id))
    return f"{checked.journal}: {words}"


def _cells(checked: ChainReport) -> Row:
    time_range = (
        (str(checked.checkpoint.seq + 1), str(checked.head.seq)) if checked.records else ("-", "-")
    )
    state = "cannot be read" if checked.error else "holds" if checked.is_ok else "BROKEN"
    if checked.is_ok and checked.dropped:
        are = "is" if checked.dropped == 1 else "are"
        state += f"; {count_of(checked.dropped, 'record')} before {are} gone"
    digest = checked.head.hash.hex() if checked.head.seq else "-"
    return checked.journal, str(checked.records), *time_range, digest, state


def _as_json(checked: ChainReport) -> dict[str, Any]:
    fault = checked.fault
    named = fault and {"seq": fault.seq, "request_id": fault.request_id, "reason": fault.reason}
    return {
        "journal": checked.journal,
        "identity": checked.identity or None,
        "ok": checked.is_ok,
        "rows": checked.records,
        "anchor": _checkpoint(checked.checkpoint),
        "head": _checkpoint(checked.head),
        "fault": named,
        "message": None if checked.is_ok else _fault_of(checked),
    }


def _checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"seq": checkpoint.seq, "hash": checkpoint.hash.hex()}
