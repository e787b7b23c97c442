"""`gatewayctl audit verify`: whether journals, and what came of them to PostgreSQL, hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Annotated, Any, Final

import attrs
import typer

from ollama_gateway.cli.audit.sources import audit_table_reader, error_printer, report_no_journals
from ollama_gateway.cli.config import ConfigOption, JsonOption, load_for_stores
from ollama_gateway.cli.output import print_json, print_table, say_over
from ollama_gateway.ledger.chain import GENESIS, ChainFault, Checkpoint
from ollama_gateway.ledger.journal import JournalError
from ollama_gateway.ledger.read.chains import Chains
from ollama_gateway.ledger.read.journals import paths_in
from ollama_gateway.ledger.read.reporting import ReportFault
from ollama_gateway.ledger.read.verifying import Checked, Progress
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.database import DatabaseError

HeadOption = Annotated[
    str | None,
    typer.Option(
        "--head", metavar="HASH", help="A head that the log told: it must still be there."
    ),
]

_COMMAND: Final = "audit verify"
_SHORT: Final = 16
"""Hex digits of a head in the table; all of them with --json."""
_HEAD: Final = ("journal", "rows", "from", "to", "head", "chain")


def verify(
    head: HeadOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Follow the chain of every journal, and name the first row that is not as it was written.

    The head is the hash that the log tells as `audit head` (see docs/operate/audit.md).
    """
    expected_head = _read_head(head)
    settings = load_for_stores(config)
    faults: list[str] = []
    found = _check(settings, expected_head, faults.append)
    if as_json:
        print_json([_as_json(checked) for checked in found])
    elif found:
        print_table([_HEAD, *map(_cells, found)])
    faults += [_in_words(checked) for checked in found if not checked.is_ok]
    if _looks_like_a_wrong_key(found):
        given = "is set" if settings.audit.chain_key else "is not set"
        faults.append(
            f"no journal holds even at its first row: audit.chain_key {given} here, is it the"
            " gateway's?"
        )
    if expected_head and not any(checked.has_expected_head for checked in found):
        faults.append("no journal has a row with this hash: it was cut off, or is too old")
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
        raise typer.BadParameter("is not the hash of a row: 64 hex digits", param_hint="--head")
    return digest


def _check(settings: Settings, expected_head: bytes, report: ReportFault) -> list[Checked]:
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


def _followed(settings: Settings, chains: Chains, report: ReportFault) -> list[Checked]:
    """Those of the journals and, where it is used and can be, PostgreSQL."""
    if records := audit_table_reader(settings):
        try:
            with closing(records):
                return chains.joined(records)
        except DatabaseError as error:
            report(str(error))
            return [attrs.evolve(one, dropped=0) for one in chains.local()]  # or were they moved?
    return chains.local()


def _progress(journal: str) -> Progress:
    """A line that is written over."""
    name = printable(journal)
    return lambda records: say_over(f"{name}: {records:,} rows followed")


def _looks_like_a_wrong_key(found: Sequence[Checked]) -> bool:
    filled = [checked for checked in found if checked.records]
    return bool(filled) and all(checked.fails_at_once for checked in filled)


_SAID: Final[dict[str, Callable[[ChainFault], str]]] = {
    "altered": lambda fault: f"row {fault.seq} (request {printable(fault.request_id)}) was altered",
    "missing": lambda fault: (
        f"what was before row {fault.seq} (request {printable(fault.request_id)}) is missing"
    ),
    "reordered": lambda fault: (
        f"row {fault.seq} (request {printable(fault.request_id)}) is not where it was"
    ),
}


def _in_words(checked: Checked) -> str:
    if checked.fault is None:
        return str(checked.error)
    return f"{checked.journal}: {_SAID[checked.fault.reason](checked.fault)}"


def _cells(checked: Checked) -> tuple[str, ...]:
    time_range = (
        (str(checked.checkpoint.seq + 1), str(checked.head.seq)) if checked.records else ("-", "-")
    )
    state = "cannot be read" if checked.error else "holds" if checked.is_ok else "BROKEN"
    if checked.is_ok and checked.dropped:
        state += f"; {checked.dropped:,} rows before are gone"
    digest = checked.head.hash.hex()[:_SHORT] if checked.head.seq else "-"
    return checked.journal, str(checked.records), *time_range, digest, state


def _as_json(checked: Checked) -> dict[str, Any]:
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
        "message": None if checked.is_ok else _in_words(checked),
    }


def _checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"seq": checkpoint.seq, "hash": checkpoint.hash.hex()}
