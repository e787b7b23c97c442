"""How commands open the audit log, follow it, and print output that may be endless."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from types import FrameType
from typing import Final

import typer

from ollama_gateway.cli.output import say
from ollama_gateway.ledger.read.audit_log import AuditLog, merged, start_at_newest
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.ledger.read.reporting import ReportFault
from ollama_gateway.ledger.read.stored import AuditTableReader
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings


def error_printer(command: str) -> ReportFault:
    """Return a function that prints a line on stderr, with the name of the command."""
    return lambda line: say(f"gatewayctl {command}: {printable(line)}", err=True)


NAP: Final = 0.5
"""Seconds between two looks for new records."""


@contextmanager
def opened(settings: Settings, command: str) -> Iterator[AuditLog]:
    """Open the audit log of these settings: the journals, and PostgreSQL if they name one.

    Parts that cannot be read are reported, and make exit code 1.
    """
    faults: list[str] = []
    tell = error_printer(command)

    def report(fault: str) -> None:
        faults.append(fault)
        tell(fault)

    with reading(settings, report) as audit_log:
        if not audit_log.segments() and not faults:
            report_no_journals(settings, command)
        yield audit_log
    if faults:
        raise typer.Exit(1)


@contextmanager
def reading(settings: Settings, report: ReportFault) -> Iterator[AuditLog]:
    """Open the audit log; `report` takes a line for each thing that cannot be read."""
    table = audit_table_reader(settings)
    with closing(table) if table else nullcontext():
        yield AuditLog(settings.storage.data_dir, report, table)


def audit_table_reader(settings: Settings) -> AuditTableReader | None:
    """Return a reader of the records in PostgreSQL; None if these settings name none."""
    url = settings.storage.database_url
    return AuditTableReader(url.reveal()) if url else None


def report_no_journals(settings: Settings, command: str) -> None:
    """Report the directory without journals, since a wrong directory is an easy mistake."""
    also = ", and no records in PostgreSQL" if settings.storage.database_url else ""
    error_printer(command)(f"there are no journals in {settings.storage.data_dir}{also}")


@contextmanager
def readable_in_part(command: str) -> Iterator[None]:
    """End the command when its reader stops reading (`| head`)."""
    try:
        yield
    except OSError as error:
        # Otherwise Python would try to write the rest, and print an error at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(0) from None
        error_printer(command)(f"cannot write: {error.strerror}")
        raise typer.Exit(1) from None


@contextmanager
def until_stopped() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM set an event, since they are the normal end of the block.

    An exception could arise where Python drops it, as in a finalizer. A second signal raises one
    all the same, for a block that does not look at the event.
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            signal.default_int_handler(number, frame)
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def newest(audit_log: AuditLog, wanted: Filter, limit: int | None) -> Iterator[StoredRecord]:
    """Yield the newest wanted records that are there now, or all if there is no limit."""
    segments = audit_log.segments()
    if limit is not None:
        start_at_newest(segments, wanted, limit)
    yield from merged(segments, wanted)


def following(
    audit_log: AuditLog, wanted: Filter, stopped: threading.Event
) -> Iterator[StoredRecord]:
    """Yield the wanted records that come, until the event is set."""
    while not stopped.wait(NAP):
        yield from audit_log.records(wanted)
