"""`gatewayctl usage`: sums of requests and tokens by key, model and more, as a table with bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from ollama_gateway.cli.audit.options import KeyFilterOption, ModelOption
from ollama_gateway.cli.audit.port import open_audit
from ollama_gateway.cli.audit.sources import readable_in_part
from ollama_gateway.cli.audit.time_range import SinceOption, UntilOption, read_time_range
from ollama_gateway.cli.options import JsonOption, WideOption
from ollama_gateway.cli.output import print_csv, print_json, print_table
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.cli.table import NOTHING, Column, Row
from ollama_gateway.cli.wrong_input import as_options
from ollama_gateway.control.usage import fields_of_usage, usage_document, ways_of
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.usage import WAYS, By, UsageSums, total
from ollama_gateway.printable import printable

ByOption = Annotated[
    str,
    typer.Option(
        "--by", metavar="WAY[,WAY]", help=f"One or two of {', '.join(WAYS)}, with a comma between."
    ),
]
PerOption = Annotated[
    str | None,
    typer.Option("--per", metavar="PERIOD", help="Also by day or month: --by key --per month."),
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")]

_COLUMNS: Final = (
    Column("requests", 2, is_number=True),
    Column("refused", 5, is_number=True),
    Column("failed", 6, is_number=True),
    Column("prompt", 3, is_number=True),
    Column("cached", 7, is_number=True),
    Column("completion", 4, is_number=True),
    Column("total", is_number=True),
    Column("estimated", 8, is_number=True),
)


@anywhere
def usage(  # noqa: PLR0913, PLR0917 - one for each option
    since: SinceOption = None,
    until: UntilOption = None,
    by: ByOption = "key",
    per: PerOption = None,
    key: KeyFilterOption = None,
    model: ModelOption = None,
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    as_csv: CsvOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Sum up requests and tokens from the audit log."""
    with as_options():
        ways = ways_of(by, per)
    wanted = Filter(read_time_range(since, until), key=key, model=model)
    with open_audit(gateway, "usage") as audit, readable_in_part("usage"):
        found = audit.usage(wanted, ways)
        if not found:
            audit.exit_if_unknown(wanted)
        if as_json:
            print_json([usage_document(one, ways) for one in found])
        elif as_csv:
            documents = (usage_document(one, ways).values() for one in found)
            print_csv([fields_of_usage(ways), *documents])
        else:
            _print(found, ways, wide=wide)


def _print(found: Sequence[UsageSums], ways: Sequence[By], *, wide: bool) -> None:
    """The groups, and the whole where there are several."""
    rows = [(*map(_name, one.labels), *_figures(one)) for one in found]
    bars: list[int | None] = [one.total_tokens for one in found]
    if len(found) > 1:
        rows.append(("total", *[""] * (len(ways) - 1), *_figures(total(found))))
        bars.append(None)
    print_table((*map(Column, ways), *_COLUMNS), rows, bars=bars, wide=wide)


def _name(label: str | None) -> str:
    return NOTHING if label is None else printable(label)


def _figures(one: UsageSums) -> Row:
    counts = (one.requests, one.refused, one.failed, one.prompt_tokens)
    tokens = (one.completion_tokens, one.total_tokens)
    cached, estimated = one.cached_share, one.estimated_share
    return (
        *(f"{count:,}" for count in counts),
        NOTHING if cached is None else _percent(cached),
        *(f"{count:,}" for count in tokens),
        _percent(estimated) if estimated else NOTHING,
    )


def _percent(share: float) -> str:
    """Return a share in percent; never 0 % if there is any."""
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"  # noqa: PLR2004 - one percent
