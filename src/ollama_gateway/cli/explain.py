"""`gatewayctl explain`: which backends a request for a model would go to now, and why.

Only a running gateway knows. The answer of its admin listener is checked before it is shown; an
unexpected one counts as no answer.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from ollama_gateway.cli.admin import NoAnswer, ask, unanswered, unexpected
from ollama_gateway.cli.completion import complete_key, complete_model
from ollama_gateway.cli.known_names import model_names
from ollama_gateway.cli.options import JsonOption, WideOption
from ollama_gateway.cli.output import exit_with, print_json, print_table, say
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.cli.table import Column
from ollama_gateway.printable import printable
from ollama_gateway.settings.units import shown
from ollama_gateway.suggestions import did_you_mean

AskedModelArgument = Annotated[
    str,
    typer.Argument(
        help="The model's name, as a client asks for it.", autocompletion=complete_model
    ),
]
ForKeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Also say whether this key, by its id or name, may use the model.",
        autocompletion=complete_key,
    ),
]
SessionOption = Annotated[
    str | None,
    typer.Option(
        "--session",
        metavar="ID",
        help="Explain a request of this conversation: the value of the header that names it.",
    ),
]

_MODEL: Final = Column("model")
"""The first column, where several models may answer."""
_COLUMNS: Final = (
    Column("order", is_number=True),
    Column("backend"),
    Column("priority", 4, is_number=True),
    Column("state"),
    Column("busy", 2),
    Column("breaker", 3),
    Column("first chunk", 5, is_number=True),
    Column("why", 1, is_prose=True),
)


@anywhere
def explain(
    model: AskedModelArgument,
    key: ForKeyOption = None,
    session: SessionOption = None,
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show which backends a request for MODEL would go to now, in which order, and why.

    Exit 1 if it would go to none, or if the key may not use the model.
    """
    address = gateway.admin()
    try:
        explained = _ask(address, model, key, session)
        found = _backends(explained)
        rows, models = [_row(backend) for backend in found], _models_of_alias(explained)
        answering = [str(backend.get("model", "-")) for backend in found]
    except NoAnswer as error:
        exit_with(1, f"gatewayctl explain: {unanswered(address, error)}")
    may_use = _may_use(explained)
    if not explained["candidates"]:
        _say_what_is_near(address, model)
    if as_json:
        print_json(explained)
    else:
        if not may_use:
            say(f"key {shown(str(key))} may not use this model: 403", err=True)
        if isinstance(advice := explained.get("advice"), str):
            say(f"key {shown(str(key))}: {printable(advice)}", err=True)
        if models:
            say(f"{shown(model)} is an alias of {models}", err=True)
            rows = [(name, *row) for name, row in zip(answering, rows, strict=True)]
        print_table((_MODEL, *_COLUMNS) if models else _COLUMNS, rows, wide=wide)
    raise typer.Exit(0 if explained["candidates"] and may_use else 1)


def _say_what_is_near(address: AdminAddress, model: str) -> None:
    """Print a line about a model that no backend lists, if another has such a name."""
    known = model_names(address)
    if model not in known and (near := did_you_mean(model, known)):
        say(f"gatewayctl explain: no backend lists {shown(model)}{near}", err=True)


def _ask(address: AdminAddress, model: str, key: str | None, session: str | None) -> dict[str, Any]:
    given = {"key": key, "session": session}
    query = urlencode({name: value for name, value in given.items() if value})
    answer = ask(address, f"/explain/{quote(model, safe='')}{'?' if query else ''}{query}")
    if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
        exit_with(1, f"gatewayctl explain: {printable(str(answer.value.get('error')))}")
    if answer.status != HTTPStatus.OK:
        raise unexpected(answer)
    return answer.value


def _backends(explained: dict[str, Any]) -> list[dict[str, Any]]:
    match explained:
        case {"candidates": [*candidates], "passed_over": [*others]}:
            return [*candidates, *others]
    raise NoAnswer


def _models_of_alias(explained: dict[str, Any]) -> str | None:
    match explained.get("alias"):
        case None:
            return None
        case {"models": [*models]}:
            return ", ".join(printable(str(model)) for model in models)
    raise NoAnswer


def _may_use(explained: dict[str, Any]) -> bool:
    key = explained.get("key")
    return not isinstance(key, dict) or key.get("may_use") is True


def _row(backend: object) -> tuple[str, ...]:
    match backend:
        case {
            "backend": str(name),
            "priority": int(priority),
            "up": bool(up),
            "paused": bool(paused),
            "warm": bool(warm),
            "in_flight": int(busy),
            "slots": int(slots),
            "breaker": str(breaker),
            "first_chunk_ms": int() | float() | None as first,
            "why": str(why),
            **others,
        }:
            loaded = "warm" if warm else "loading" if others.get("loading") is True else "cold"
            state = "down" if not up else "paused" if paused else loaded
            room = f"{busy} of {slots}" if slots else _learned(others) or str(busy)
            time = "-" if first is None else f"{first:,.0f} ms"
            order = str(others.get("order", "-"))
            return order, name, str(priority), state, room, breaker, time, why
    raise NoAnswer


def _learned(backend: object) -> str | None:
    match backend:
        case {"running": int(running), "learned_capacity": int(capacity)}:
            return f"{running} of {capacity} (learned)"
    return None
