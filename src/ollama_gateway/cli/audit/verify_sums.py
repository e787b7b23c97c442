"""`gatewayctl audit verify --sums`: compares the daily sums in PostgreSQL with the records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer

from ollama_gateway.cli.audit.sources import error_printer
from ollama_gateway.cli.load_settings import EXIT_SETTINGS
from ollama_gateway.cli.output import count_of, exit_with, print_json, say, say_over
from ollama_gateway.ledger.read.daily_sums_reader import (
    TIMEOUTS,
    SumsDifference,
    days_of,
    differences,
)
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.database import DatabaseError

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Database

_COMMAND: Final = "audit verify --sums"


def verify_sums(settings: Settings, *, as_json: bool) -> NoReturn:
    """Compare day by day, name each key whose sums differ, and end the command."""
    url = settings.storage.database_url
    if url is None:
        line = "storage.database_url: is not set: only PostgreSQL has daily sums"
        exit_with(EXIT_SETTINGS, line)
    try:
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        with closing(Database(url.reveal(), TIMEOUTS)) as database:
            days = days_of(database)
            found = list(_differences(database, days))
    except DatabaseError as error:
        say_over("")
        exit_with(1, f"gatewayctl {_COMMAND}: {error}")
    if as_json:
        print_json([_as_json(one) for one in found])
    else:
        say(f"{count_of(len(days), 'day')} compared, {count_of(len(found), 'difference')}")
    for one in found:
        error_printer(_COMMAND)(_line(one))
    if found:
        say("`gatewayctl db rebuild-usage` makes the sums from the records", err=True)
    raise typer.Exit(1 if found else 0)


def _differences(database: Database, days: list[str]) -> Iterator[SumsDifference]:
    for number, day in enumerate(days, 1):
        say_over(f"comparing {day} ({number} of {len(days)})")
        yield from differences(database, day)
    say_over("")


def _line(one: SumsDifference) -> str:
    key = "requests without a key" if one.key_id is None else _key(one)
    if one.requests[0] == one.requests[1] and one.tokens[0] == one.tokens[1]:
        return f"{one.day}, {key}: the totals agree, but not what they are made of"
    sides = (
        f"{count_of(requests, 'request')} and {count_of(tokens, 'token')}"
        for requests, tokens in zip(one.requests, one.tokens, strict=True)
    )
    return f"{one.day}, {key}: the sums have {next(sides)}, the records {next(sides)}"


def _key(one: SumsDifference) -> str:
    return f"key {printable(one.key_name or '-')} ({printable(one.key_id or '')})"


def _as_json(one: SumsDifference) -> dict[str, Any]:
    return {
        "day": one.day,
        "key_id": one.key_id,
        "key_name": one.key_name,
        "sums": {"requests": one.requests[0], "total_tokens": one.tokens[0]},
        "records": {"requests": one.requests[1], "total_tokens": one.tokens[1]},
    }
