"""`gatewayctl requests`: list the requests that run now, cancel one, or all of a key.

Exit codes: 1 if no gateway answers, if it refuses, and for a request that does not run; 2 for wrong
command lines and settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from ollama_gateway.cli.admin import NoAnswer, ask
from ollama_gateway.cli.completion import complete_key, complete_model, complete_request
from ollama_gateway.cli.load_settings import load_silently
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import confirm, count_of, exit_with, print_json, print_table, say
from ollama_gateway.cli.table import NOTHING, Column, Row
from ollama_gateway.printable import printable
from ollama_gateway.settings import ServerSettings
from ollama_gateway.settings.units import shown

app = typer.Typer(no_args_is_help=True, help="List the requests that run now, and cancel them.")

Document = Mapping[str, Any]

PATH: Final = "/admin/v1/requests"
PAGE: Final = 200
"""Requests of one answer."""
_COLUMNS: Final = (
    Column("age", is_number=True),
    Column("key"),
    Column("end user", 5),
    Column("model", 1),
    Column("stage"),
    Column("backend", 2),
    Column("tokens", 3, is_number=True),
    Column("endpoint", 6),
    Column("client", 7),
    Column("request"),
)

KeyOption = Annotated[
    str | None,
    typer.Option("--key", help="Only of this key: its id or name.", autocompletion=complete_key),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Only for this model.", autocompletion=complete_model),
]


@app.command("list")
def list_requests(
    key: KeyOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List the requests that run now, the oldest first."""
    found = documents(load_silently(config).settings.server, key=key, model=model)
    if as_json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_row(one) for one in found], wide=wide)


@app.command()
def cancel(
    request_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="The id from X-Request-Id or `requests list`.",
            autocompletion=complete_request,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="All requests of this key: its id or name.", autocompletion=complete_key
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """End a request, or all of a key; their clients get an error, their records say by whom."""
    if (request_id is None) is (key is None):
        exit_with(2, "gatewayctl requests cancel: name a request, or a key with --key")
    server = load_silently(config).settings.server
    if request_id is not None:
        done = [_asked(server, f"{PATH}/{quote(request_id, safe='')}", method="DELETE")]
    else:
        done = _cancel_all_of(server, str(key), is_sure=yes)
    if as_json:
        print_json(done)
    elif request_id is not None:
        say(f"request {shown(request_id)} is cancelled")
    else:
        ended = sum(len(_texts(answer.get("cancelled"))) for answer in done)
        say(f"{count_of(ended, 'request')} of {shown(str(key))} cancelled")


def documents(
    server: ServerSettings, *, key: str | None = None, model: str | None = None
) -> list[Document]:
    """Return the requests that run in the gateway of these settings and match.

    Says on stderr which of its processes do not answer; ends the command if none does.
    """
    given = {"limit": str(PAGE), "key": key, "model": model, "cursor": None}
    found: list[Document] = []
    unanswered: set[str] = set()
    while True:
        query = urlencode({name: text for name, text in given.items() if text is not None})
        page = _asked(server, f"{PATH}?{query}")
        items = page.get("items")
        if not isinstance(items, list) or not all(map(_is_request, items)):
            exit_with(1, f"what answers at {server.admin_bind} is no gateway of this version")
        found += items
        unanswered |= set(_texts(page.get("unanswered")))
        given["cursor"] = page.get("next")
        if not isinstance(given["cursor"], str):
            break
    for process in sorted(unanswered):
        say(f"process {printable(process)} does not answer: its requests are missing", err=True)
    return found


def _cancel_all_of(server: ServerSettings, key: str, *, is_sure: bool) -> list[Document]:
    running = documents(server, key=key)
    if running and not is_sure:
        confirm(f"Cancel {count_of(len(running), 'request')} of key {key}?")
    ids = {str(one["key_id"]) for one in running}
    return [_asked(server, f"{PATH}?{urlencode({'key': one})}", method="DELETE") for one in ids]


def _asked(server: ServerSettings, path: str, *, method: str = "GET") -> Document:
    """Return what the gateway answers; end the command if it does not, or refuses."""
    try:
        answer = ask(server, path, method=method)
    except NoAnswer:
        exit_with(1, f"no gateway answers at {server.admin_bind}: is it running?")
    if answer.status != HTTPStatus.OK:
        detail = answer.value.get("detail") or answer.value.get("error")
        said = printable(str(detail)) if isinstance(detail, str) else f"HTTP {answer.status}"
        exit_with(1, f"gatewayctl requests: {said}")
    return answer.value


def _is_request(item: object) -> bool:
    return (
        isinstance(item, dict)
        and all(isinstance(item.get(name), str) for name in ("id", "key_id", "key_name", "stage"))
        and isinstance(item.get("age_s"), int | float)
    )


def _row(one: Document) -> Row:
    cells = (
        age_of(one["age_s"]),
        one["key_name"],
        one.get("end_user"),
        one.get("alias") or one.get("model"),
        one["stage"],
        one.get("backend"),
        one.get("tokens"),
        one.get("endpoint"),
        one.get("client"),
        one["id"],
    )
    return tuple(NOTHING if cell is None else printable(str(cell)) for cell in cells)


def age_of(seconds: float) -> str:
    """Return an age for people: `4.2 s`, `75 s`, `12 min`."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"  # noqa: PLR2004


def _texts(value: object) -> Sequence[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
