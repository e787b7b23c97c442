"""The options of `gatewayctl keys`, and the readers of their texts.

A wrong option is a usage error that names it, before the store is opened. For a limit that is not
given, `create` leaves the default of the settings, `update` the key's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.completion import complete_key
from ollama_gateway.keys.key import ENDPOINT_GROUPS, MAX_LIMIT, utc_now
from ollama_gateway.models.aliases import Alias, Aliases, WrongAlias, alias_of, models_of
from ollama_gateway.settings.units import seconds, shown, some_seconds

_DIGITS: Final = len(str(MAX_LIMIT))

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="A key's id, or its name.", autocompletion=complete_key)
]
OneKeyArgument = Annotated[
    str | None,
    typer.Argument(metavar="KEY", help="A key's id, or its name.", autocompletion=complete_key),
]
MatchOption = Annotated[
    str | None,
    typer.Option("--match", metavar="GLOB", help="All keys of such names, e.g. 'student-*'."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--models", metavar="GLOB", help="Models the key may use, e.g. 'llama3*'; repeatable."
    ),
]
EndpointsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoints",
        metavar="GROUP",
        help=f"Endpoints the key may call: {', '.join(ENDPOINT_GROUPS)}; repeatable.",
    ),
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(
        "--expires", metavar="TIME", help="Time until the key expires, e.g. 90d, or never."
    ),
]
GraceOption = Annotated[
    str,
    typer.Option(
        "--grace", metavar="TIME", help="Time for which the old text stays valid, e.g. 24h."
    ),
]


def _limit(flag: str, unit: str) -> Any:
    return typer.Option(
        flag, metavar="N", help=f"{unit}; 0: no limit, `default`: as in the settings."
    )


PerMinuteOption = Annotated[str | None, _limit("--requests-per-minute", "Requests in 60 s")]
ConcurrentOption = Annotated[str | None, _limit("--concurrent", "Requests at once")]
PerDayOption = Annotated[str | None, _limit("--tokens-per-day", "Tokens in a day")]
PerMonthOption = Annotated[str | None, _limit("--tokens-per-month", "Tokens in a month")]


UserHeaderOption = Annotated[
    str | None,
    typer.Option(
        "--user-header",
        metavar="NAME",
        help="The header, or body:FIELD.FIELD, that names the end user of a front end; none: no.",
    ),
]


AliasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--alias",
        metavar="NAME=MODEL",
        help="A name that stands for a model (or several: A,B) for this key, e.g. "
        "'gpt-4o=llama3.3:70b'; repeatable; none: no.",
    ),
]


def read_given(
    *,
    name: str | None = None,
    models: Sequence[str] | None,
    endpoints: Sequence[str] | None,
    expires: str | None,
    limits: Sequence[str | None],
    user_header: str | None,
    aliases: Sequence[str] | None,
) -> dict[str, Any]:
    """Return what the options give of a key, as the fields of its document.

    `limits` are those of a minute, at once, of a day and of a month, in this order.
    """
    given: dict[str, Any] = {}
    if name is not None:
        given["name"] = name
    if models is not None:
        given["models"] = list(read_list(models))
    if endpoints is not None:
        given["endpoints"] = list(read_list(endpoints))
    if expires is not None:
        when = read_expiry(expires)
        given["expires_at"] = None if when is None else when.isoformat()
    if user_header is not None:
        given["user_header"] = read_header(user_header)
    if aliases is not None:
        given["aliases"] = models_of(read_aliases(aliases))
    if any(limit is not None for limit in limits):
        given["limits"] = read_limits(*limits)
    return given


def read_aliases(values: Sequence[str]) -> Aliases:
    """Return the aliases of `NAME=MODEL[,MODEL...]`, in order; `none` alone gives none."""
    return Aliases(() if list(values) == ["none"] else tuple(map(_read_alias, values)))


def _read_alias(text: str) -> Alias:
    name, equals, models = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{shown(text)} is not NAME=MODEL", param_hint="--alias")
    try:
        return alias_of(name.strip(), read_list([models]))
    except WrongAlias as error:
        raise typer.BadParameter(f"{shown(name)} {error}", param_hint="--alias") from None


def read_header(text: str) -> str | None:
    """Return the header's name in lower case, as keys store it; None for `none`."""
    return None if text == "none" else text.lower()


def read_list(values: Sequence[str]) -> tuple[str, ...]:
    """Split each value at its commas; the order is kept, repetitions are dropped."""
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def read_expiry(text: str) -> datetime | None:
    """Return the time after this duration from now; None for `never`."""
    if text == "never":
        return None
    try:
        return utc_now() + timedelta(seconds=some_seconds(text))
    except ValueError as error:
        raise typer.BadParameter(f"{error}, or never", param_hint="--expires") from None


def read_grace(text: str) -> timedelta:
    """Read the time for which an old text stays valid."""
    try:
        return timedelta(seconds=seconds(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--grace") from None


def read_limits(
    per_minute: str | None, concurrent: str | None, per_day: str | None, per_month: str | None
) -> dict[str, int | None]:
    """Return the limits that are given, by their names in `KeyLimits`."""
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
