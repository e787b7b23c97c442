"""`gatewayctl usage`: sums of requests and tokens by key, model and more, as a table with bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.audit.options import KeyFilterOption, ModelOption
from ollama_gateway.cli.audit.sources import opened, readable_in_part
from ollama_gateway.cli.audit.time_range import SinceOption, UntilOption, read_time_range
from ollama_gateway.cli.config import ConfigOption, JsonOption, load_for_stores
from ollama_gateway.cli.output import print_json, print_table
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.journals import merged
from ollama_gateway.ledger.read.usage import COUNTS, WAYS, By, UsageSums, total
from ollama_gateway.ledger.read.usage import usage as sums_of
from ollama_gateway.printable import printable
from ollama_gateway.settings.units import shown

ByOption = Annotated[str, typer.Option("--by", metavar="WAY", help=f"One of {', '.join(WAYS)}.")]

_HEAD: Final = (
    *("requests", "refused", "failed"),
    *("prompt", "completion", "total", "estimated"),
)


def usage(
    since: SinceOption = None,
    until: UntilOption = None,
    by: ByOption = "key",
    key: KeyFilterOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Sum up requests and tokens from the audit log."""
    way = _way(by)
    wanted = Filter(read_time_range(since, until), key=key, model=model)
    with opened(load_for_stores(config), "usage") as audit_log, readable_in_part("usage"):
        records = filter(wanted.matches, merged(audit_log.segments(), wanted.time_range))
        found = sums_of((record.document for record in records), way)
        if as_json:
            print_json([_as_json(one, way) for one in found])
        else:
            _print(found, way)


def _way(text: str) -> By:
    for way in WAYS:
        if way == text:
            return way
    raise typer.BadParameter(f"{shown(text)} is not one of {', '.join(WAYS)}", param_hint="--by")


def _print(found: Sequence[UsageSums], way: By) -> None:
    """The groups, and the whole where there are several."""
    totals = [total(found)] if len(found) > 1 else []
    shown_ones = [*found, *totals]
    names = [way, *map(_name, shown_ones)]
    rows = [(name, *row) for name, row in zip(names, _figures_of(shown_ones), strict=True)]
    print_table(rows, bars=[*(one.total_tokens for one in found), *(None for _ in totals)])


def _figures_of(found: Sequence[UsageSums]) -> list[tuple[str, ...]]:
    return _justified([_HEAD, *map(_figures, found)])


def _justified(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Align numbers to the right of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        tuple(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    ]


def _name(one: UsageSums) -> str:
    return "-" if one.label is None else printable(one.label)


def _figures(one: UsageSums) -> tuple[str, ...]:
    counts = (one.requests, one.refused, one.failed)
    tokens = (one.prompt_tokens, one.completion_tokens, one.total_tokens)
    return *(f"{count:,}" for count in (*counts, *tokens)), _estimated(one)


def _estimated(one: UsageSums) -> str:
    """Return the share of tokens that are estimates; never 0 % if there is one."""
    if not one.counted_tokens:
        return "-"
    share = 100 * one.counted_tokens / one.total_tokens
    return "<1%" if share < 1 else f"{share:.0f}%"


def _as_json(one: UsageSums, way: By) -> dict[str, Any]:
    name = way.replace("-", "_")
    group = {"key_id": one.name, "key_name": one.label} if way == "key" else {name: one.name}
    counts = {count: getattr(one, count) for count in COUNTS}
    return {**group, **counts, "total_tokens": one.total_tokens}
