"""`gatewayctl usage`: sums of requests and tokens by key, model and more, as a table with bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.audit.options import KeyFilterOption, ModelOption
from ollama_gateway.cli.audit.sources import opened, readable_in_part
from ollama_gateway.cli.audit.time_range import SinceOption, UntilOption, read_time_range
from ollama_gateway.cli.audit.unknown import exit_if_unknown
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import print_json, print_table
from ollama_gateway.cli.table import NOTHING, Column, Row
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.usage import COUNTS, WAYS, By, UsageSums, dimensions_of, total
from ollama_gateway.ledger.read.usage import usage as sums_of
from ollama_gateway.printable import printable
from ollama_gateway.settings.units import shown

ByOption = Annotated[str, typer.Option("--by", metavar="WAY", help=f"One of {', '.join(WAYS)}.")]

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


def usage(
    since: SinceOption = None,
    until: UntilOption = None,
    by: ByOption = "key",
    key: KeyFilterOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Sum up requests and tokens from the audit log."""
    way = _way(by)
    wanted = Filter(read_time_range(since, until), key=key, model=model)
    settings = load_for_stores(config)
    with opened(settings, "usage") as audit_log, readable_in_part("usage"):
        found = sums_of(audit_log.sums(wanted, dimensions_of(way)), way)
        if not found:
            exit_if_unknown(settings, wanted, "usage")
        if as_json:
            print_json([_as_json(one, way) for one in found])
        else:
            _print(found, way, wide=wide)


def _way(text: str) -> By:
    for way in WAYS:
        if way == text:
            return way
    raise typer.BadParameter(f"{shown(text)} is not one of {', '.join(WAYS)}", param_hint="--by")


def _print(found: Sequence[UsageSums], way: By, *, wide: bool) -> None:
    """The groups, and the whole where there are several."""
    totals = [total(found)] if len(found) > 1 else []
    rows = [(_name(one), *_figures(one)) for one in [*found, *totals]]
    bars = [*(one.total_tokens for one in found), *(None for _ in totals)]
    print_table((Column(way), *_COLUMNS), rows, bars=bars, wide=wide)


def _name(one: UsageSums) -> str:
    return "-" if one.label is None else printable(one.label)


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


def _as_json(one: UsageSums, way: By) -> dict[str, Any]:
    name = way.replace("-", "_")
    group = {"key_id": one.name, "key_name": one.label} if way == "key" else {name: one.name}
    counts: dict[str, Any] = {count: getattr(one, count) for count in COUNTS}
    if not one.cached_of_tokens:
        counts["cached_tokens"] = None
    return {**group, **counts, "total_tokens": one.total_tokens}
