"""`gatewayctl reload`: put the settings in force as they are now, in the running gateway.

The gateway reads its own file and its own environment; the settings that this command reads only
say where its admin listener is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from ollama_gateway.cli.admin import NoAnswer, ask, unanswered
from ollama_gateway.cli.options import JsonOption, WideOption
from ollama_gateway.cli.output import exit_with, print_json, print_table, say
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.cli.table import Column
from ollama_gateway.printable import printable
from ollama_gateway.settings import SettingsError, load

RELOAD_SECONDS: Final = 30.0
"""Time for the gateway to read the settings and to build what they say."""
UNCHANGED: Final = "nothing has changed"
REFUSED: Final = (
    "server.admin_token: the gateway has another one in force: give that one in"
    " GATEWAY_SERVER_ADMIN_TOKEN, or send SIGHUP"
)
_COLUMNS: Final = (Column("setting"), Column("in force before"), Column("now"))


@anywhere
def reload(
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Put changed settings in force without a restart; exit 1 if they cannot be.

    All change or none does. Requests that run keep the settings that they began with.
    """
    address = gateway.remote() or _here(gateway)
    try:
        answer = ask(address, "/reload", method="POST", seconds=RELOAD_SECONDS)
    except NoAnswer as error:
        exit_with(1, f"{unanswered(address, error)}: is it running?")
    if answer.status == HTTPStatus.UNAUTHORIZED:
        exit_with(1, REFUSED, UNCHANGED)
    problems, changes = answer.value.get("problems"), answer.value.get("changes")
    if isinstance(problems, list):
        exit_with(1, *(printable(str(problem)) for problem in problems), UNCHANGED)
    if answer.status != HTTPStatus.OK or not isinstance(changes, list):
        exit_with(1, f"the gateway at {address.shown} did not reload (HTTP {answer.status})")
    if as_json:
        print_json(answer.value)
        return
    for warning in answer.value.get("warnings", ()):
        say(f"warning: {printable(str(warning))}", err=True)
    if changes:
        print_table(_COLUMNS, _rows(changes), wide=wide)
    else:
        say(UNCHANGED, err=True)


def _here(gateway: GatewayChoice) -> AdminAddress:
    """Return where this machine's gateway is asked; exit with code 1 on wrong settings."""
    try:
        return AdminAddress.of_settings(load(gateway.config).settings.server)
    except SettingsError as error:
        exit_with(1, *error.problems, UNCHANGED)


def _rows(changes: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (text_of(change.get("path")), text_of(change.get("before")), text_of(change.get("after")))
        for change in changes
    ]


def text_of(value: object) -> str:
    """Show a value of a change; None stands for a backend that is not there."""
    return "-" if value is None else printable(str(value))
