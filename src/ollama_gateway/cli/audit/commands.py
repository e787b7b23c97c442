"""`gatewayctl audit`: list the audit log, show one record, verify the chains.

The commands read the journals of `storage.data_dir`, whether a gateway runs or not, and with
`storage.database_url` the records of all machines in PostgreSQL; they never change anything.
Records come in the order in which their requests ended (`ledger/read/audit_log.py`), so
to follow the log is to go on reading.

Exit codes: 1 if something cannot be read, a request is unknown or a chain does not hold; 2 for
errors on the command line or in the settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, islice, takewhile
from typing import Annotated

import typer

from ollama_gateway.cli.audit import render
from ollama_gateway.cli.audit.changes import changes, render_change
from ollama_gateway.cli.audit.export import export
from ollama_gateway.cli.audit.options import (
    FIRST,
    BackendOption,
    EndpointOption,
    EndUserOption,
    FollowOption,
    KeyFilterOption,
    LimitOption,
    ModelOption,
    OpenOption,
    OutcomeOption,
    ReasonOption,
    read_outcome,
)
from ollama_gateway.cli.audit.port import open_audit
from ollama_gateway.cli.audit.sources import (
    error_printer,
    readable_in_part,
    until_stopped,
)
from ollama_gateway.cli.audit.time_range import SinceOption, UntilOption, read_time_range
from ollama_gateway.cli.audit.verify import verify
from ollama_gateway.cli.options import JsonOption, WideOption
from ollama_gateway.cli.output import TablePrinter, print_json, say
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.settings.units import shown

app = typer.Typer(
    no_args_is_help=True, help="Look at the audit log: every request and how it ended."
)
app.command("verify")(verify)
app.command("export")(export)
app.command("changes")(changes)


@app.command("list")
@anywhere
def list_records(  # noqa: PLR0913, PLR0917 - one for each option
    since: SinceOption = None,
    until: UntilOption = None,
    key: KeyFilterOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    outcome: OutcomeOption = None,
    reason: ReasonOption = None,
    end_user: EndUserOption = None,
    endpoint: EndpointOption = None,
    limit: LimitOption = None,
    follow: FollowOption = False,  # noqa: FBT002 - a flag
    is_open: OpenOption = False,  # noqa: FBT002 - a flag
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List requests, one per line, in the order in which they ended."""
    outcome = read_outcome(outcome)
    time_range = read_time_range(since, until)
    wanted = Filter(time_range, key, model, backend, outcome, reason, end_user, endpoint)
    with open_audit(gateway, "audit list") as audit, readable_in_part("audit list"):
        running = audit.running(wanted) if is_open else ()
        recorded = audit.newest(wanted, limit)
        records = chain(recorded if follow else islice(recorded, limit), running)
        first = list(islice(records, FIRST))
        if not first and limit != 0:
            audit.exit_if_unknown(wanted)
        if not follow:
            _print(first, records, as_json=as_json, wide=wide)
            return
        with until_stopped() as stopped:
            found = chain(records, audit.following(wanted, stopped))
            others = takewhile(lambda _: not stopped.is_set(), found)
            _print(first, others, as_json=as_json, wide=wide)


@app.command()
@anywhere
def show(
    record_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="From X-Request-Id, `audit list` or `audit changes`."),
    ],
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show everything that is recorded of one request, or of one change."""
    with open_audit(gateway, "audit show") as audit, readable_in_part("audit show"):
        record = audit.find(record_id)
        if record is None:
            error_printer("audit show")(
                f"no request {shown(record_id)} is recorded, and no such change"
            )
            raise typer.Exit(1)
        if as_json:
            print_json(record.document)
        else:
            is_change = record.kind == "change"
            for line in render_change(record) if is_change else render.render_record(record):
                say(line)


def _print(
    first: Sequence[StoredRecord], others: Iterable[StoredRecord], *, as_json: bool, wide: bool
) -> None:
    """Print records; the widths of the table are those of the first ones."""
    if as_json:
        for record in chain(first, others):
            say(json.dumps(record.document))
        return
    rows = [render.row_of(record) for record in first] or [render.TYPICAL]
    table = TablePrinter(render.COLUMNS, rows, wide=wide)
    table.print_head()
    for record in chain(first, others):
        table.print_row(render.row_of(record))
    table.print_hint()
