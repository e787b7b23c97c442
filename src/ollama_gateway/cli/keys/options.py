"""The options of `gatewayctl keys`, and how their texts are read.

What is wrong with one is a usage error that names it, before the store is opened. A limit that is
not given is left alone: by `create` to the settings, by `update` as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer

from ollama_gateway.keys.key import ENDPOINT_GROUPS, MAX_LIMIT, utc_now
from ollama_gateway.settings.units import seconds, shown, some_seconds

_DIGITS: Final = len(str(MAX_LIMIT))

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A key's id, or its name.")]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--models", metavar="GLOB", help="Models it may use, e.g. 'llama3*'; repeatable."),
]
EndpointsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoints",
        metavar="GROUP",
        help=f"What it may call: {', '.join(ENDPOINT_GROUPS)}; repeatable.",
    ),
]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", metavar="TIME", help="How long it lasts, e.g. 90d; or never."),
]
GraceOption = Annotated[
    str, typer.Option("--grace", metavar="TIME", help="How long the old text lives on, e.g. 24h.")
]


def _limit(flag: str, of_what: str) -> Any:
    return typer.Option(flag, metavar="N", help=f"{of_what}; 0: no limit, default: the settings'.")


PerMinuteOption = Annotated[str | None, _limit("--requests-per-minute", "Requests in 60 s")]
ConcurrentOption = Annotated[str | None, _limit("--concurrent", "Requests at once")]
PerDayOption = Annotated[str | None, _limit("--tokens-per-day", "Tokens in a day")]
PerMonthOption = Annotated[str | None, _limit("--tokens-per-month", "Tokens in a month")]


UserHeaderOption = Annotated[
    str | None,
    typer.Option(
        "--user-header",
        metavar="NAME",
        help="The header in which a front end says for whom it asks; none: no header.",
    ),
]


def read_header(text: str) -> str | None:
    """The name of a header as keys have it; None for `none`."""
    return None if text == "none" else text.lower()


def read_list(values: Sequence[str]) -> tuple[str, ...]:
    """Each value may hold several with commas between; order kept, repetitions dropped."""
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def read_expiry(text: str) -> datetime | None:
    """When a key ends that is to last so long from now; None for `never`."""
    if text == "never":
        return None
    try:
        return utc_now() + timedelta(seconds=some_seconds(text))
    except ValueError as error:
        raise typer.BadParameter(f"{error}, or never", param_hint="--expires") from None


def read_grace(text: str) -> timedelta:
    """How long an old text lives on."""
    try:
        return timedelta(seconds=seconds(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--grace") from None


def read_limits(
    per_minute: str | None, concurrent: str | None, per_day: str | None, per_month: str | None
) -> dict[str, int | None]:
    """The limits that are given, by their names in `KeyLimits`."""
    given = (
        ("requests_per_minute", "--requests-per-minute", per_minute),
        ("concurrent_requests", "--concurrent", concurrent),
        ("tokens_per_day", "--tokens-per-day", per_day),
        ("tokens_per_month", "--tokens-per-month", per_month),
    )
    return {name: _read_limit(flag, text) for name, flag, text in given if text is not None}


def _read_limit(flag: str, text: str) -> int | None:
    if text == "default":
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS
    if not is_number or int(text) > MAX_LIMIT:
        raise typer.BadParameter(
            f"{shown(text)} is not a whole number from 0 to {MAX_LIMIT}, or default",
            param_hint=flag,
        )
    return int(text)
