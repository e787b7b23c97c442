"""`gatewayctl limits`: how much of its limits each key has used, and its reset.

Only a running gateway knows the usage, so each command asks it; an unexpected answer counts as
none.

Exit codes: 1 if no gateway answers or it refuses, 2 for errors on the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import quote

import typer

from ollama_gateway.cli.admin import AdminAnswer, NoAnswer, TokenFileRefused, ask, order
from ollama_gateway.cli.keys.options import KeyArgument
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import exit_with, print_json, print_table, say
from ollama_gateway.cli.table import NOTHING, Column, Row
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Show how much of their limits keys use; reset it.")

NAMES: Final = ("rate", "day", "month")
"""The limits that can be reset."""
_PAGE: Final = 1000
_COLUMNS: Final = (
    Column("key"),
    Column("name"),
    Column("used", is_number=True),
    Column("requests/min", 2, is_number=True),
    Column("at once", 3, is_number=True),
    Column("tokens today", is_number=True),
    Column("tokens this month", 1, is_number=True),
)
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="WORDS", help="Why, for the audit log.")
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", metavar="NAME", help=f"Only this one of {', '.join(NAMES)}; repeatable."
    ),
]


@app.command("list")
def list_limits(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List how much of its limits each active key has used, those near one first."""
    settings = load_for_stores(config)
    found = list(_standings(settings))
    if as_json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_row(one) for one in found], wide=wide)


@app.command()
def reset(
    key: KeyArgument,
    reason: ReasonOption,
    limit: LimitOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Set what a key has used of its limits back to zero; its running requests still count."""
    names = list(limit or NAMES)
    if wrong := [name for name in names if name not in NAMES]:
        raise typer.BadParameter(
            f"{printable(wrong[0])} is not one of {', '.join(NAMES)}", param_hint="--limit"
        )
    settings = load_for_stores(config)
    key_id = _id_of(settings, key)
    answer = _asked(
        settings,
        f"/admin/v1/limits/{quote(key_id, safe='')}/reset",
        {"reason": reason, "limits": names},
    )
    if as_json:
        print_json(answer)
        return
    say(f"key {printable(key_id)}: {', '.join(names)} set back to zero")
    if answer.get("is_on_disk") is not True:
        say("warning: the usage journal has not noted it yet; a restart may undo it", err=True)


def _standings(settings: Settings) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        query = f"?limit={_PAGE}" + (f"&cursor={quote(cursor)}" if cursor else "")
        answer = _asked(settings, f"/admin/v1/limits{query}")
        items, cursor = answer.get("items"), answer.get("next")
        if not isinstance(items, list) or not all(map(_is_standing, items)):
            _exit_unanswered(settings)
        yield from items
        if not isinstance(cursor, str) or not items:
            return


def _id_of(settings: Settings, key: str) -> str:
    standings = list(_standings(settings))
    if any(one["key_id"] == key for one in standings):
        return key
    found = [one["key_id"] for one in standings if one["key_name"] == key]
    if len(found) != 1:
        what = "no active key" if not found else "several keys"
        exit_with(1, f"gatewayctl limits: {what} {printable(key)!r}: give an id")
    return str(found[0])


def _asked(settings: Settings, path: str, document: object = None) -> dict[str, Any]:
    """Return the answer of the running gateway; exit with code 1 if it refuses."""
    try:
        if document is None:
            answer = ask(settings.server, path)
        else:
            answer = order(settings, path, document=document)
    except TokenFileRefused as error:
        exit_with(1, f"gatewayctl limits: {error}")
    except NoAnswer:
        _exit_unanswered(settings)
    if answer.status != HTTPStatus.OK:
        exit_with(1, f"gatewayctl limits: {_why(answer)}")
    return answer.value


def _why(answer: AdminAnswer) -> str:
    detail = answer.value.get("detail")
    return printable(detail) if isinstance(detail, str) else f"refused (HTTP {answer.status})"


def _exit_unanswered(settings: Settings) -> NoReturn:
    exit_with(1, f"gatewayctl limits: no gateway answers on {settings.server.admin_bind}")


def _is_standing(value: object) -> bool:
    match value:
        case {"key_id": str(), "key_name": str(), "limits": dict(limits)}:
            return all(isinstance(one, dict) for one in limits.values())
    return False


def _row(one: Mapping[str, Any]) -> Row:
    share, limits = one.get("share"), one["limits"]
    used = NOTHING if not isinstance(share, int | float) else f"{share:.0%}"
    cells = (_cell(limits.get(name)) for name in ("rate", "concurrency", "day", "month"))
    return (one["key_id"], one["key_name"], used, *cells)


def _cell(limit: Mapping[str, Any] | None) -> str:
    match limit:
        case {"used": int(used), "limit": int(most)}:
            return f"{used:,} of {most:,}"
    return NOTHING
