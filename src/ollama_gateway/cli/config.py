"""`gatewayctl config check|show`.

stdout carries only the result: `ok: FILE`, the table, or one JSON object. Problems and warnings go
to stderr, one a line, each beginning with the path of its setting or the name of its variable.
Every form of output shows a secret as `(set)` or `(not set)`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

from ollama_gateway.cli import data_dir, startable
from ollama_gateway.cli.load_settings import exit_on_problems, load_or_exit, warn
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import exit_with, print_json, print_table, say
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.cli.remote.here_only import here_only
from ollama_gateway.cli.table import Column
from ollama_gateway.printable import printable
from ollama_gateway.settings import Loaded, Settings, SettingsError, load

if TYPE_CHECKING:
    from ollama_gateway.cli.online import OnlineCheck

OnlineOption = Annotated[
    bool, typer.Option("--online", help="Ask Redis, PostgreSQL and the backends too.")
]

_COLUMNS: Final = (Column("setting"), Column("value"), Column("from", 1))

_DIFFERENCES: Final = (
    Column("setting"),
    Column("in force"),
    Column("as read now"),
    Column("needs", 1),
)

app = typer.Typer(no_args_is_help=True, help="Check and show the settings, and start nothing.")


@app.command()
@here_only("checks the settings of this machine")
def check(
    config: ConfigOption = None,
    online: OnlineOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Check the settings and list every problem; exit 2 if there is one.

    With --online, also ask each server that they name; exit 1 if one cannot be used.
    """
    try:
        loaded = load(config)
        trusted = data_dir.trusted_by_commands(loaded.settings)
        problems = (
            *data_dir.faults_of(loaded.settings, trusted),
            *startable.faults_of_start(loaded.settings),
        )
    except SettingsError as exc:
        problems = exc.problems
    if problems and as_json:
        say(json.dumps({"ok": False, "problems": problems}))
    exit_on_problems(problems)
    warn(loaded)
    for hint in loaded.hints:
        say(f"hint: {hint}", err=True)
    checks = _checks_of(loaded.settings) if online else []
    is_ok = all(check.ok for check in checks)
    if as_json:
        source = None if loaded.source is None else str(loaded.source)
        found = {"warnings": loaded.warnings, "hints": loaded.hints}
        asked = {"online": [attrs.asdict(check) for check in checks]} if online else {}
        say(json.dumps({"ok": is_ok, "source": source, **found, **asked}))
    else:
        say(f"ok: {_source(loaded)}")
        _print_checks(checks)
    raise typer.Exit(0 if is_ok else 1)


def _checks_of(settings: Settings) -> list[OnlineCheck]:
    from ollama_gateway.cli.online import checks_of  # noqa: PLC0415 - clients of all servers

    return list(checks_of(settings))


def _print_checks(checks: Sequence[OnlineCheck]) -> None:
    for check in checks:
        for warning in check.warnings:
            say(f"warning: {printable(warning)}", err=True)
        cause = f" ({check.cause})" if check.cause else ""
        say(
            f"{check.name}: ok"
            if check.ok
            else f"{check.name}{cause}: {printable(check.error or '')}"
        )


@app.command()
@here_only("shows the settings of this machine", even_in_use=False)
def show(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Print every setting and its source, and which a running gateway does not have in force yet.

    The values of secrets are not shown.
    """
    from ollama_gateway.cli.pending import (  # noqa: PLC0415 - asks a gateway
        in_force,
        pending_or_none,
        say_pending,
    )
    from ollama_gateway.cli.remote.address import AdminAddress  # noqa: PLC0415 - asks a gateway
    from ollama_gateway.control.config import (  # noqa: PLC0415 - `check` needs less
        config_document,
        shown_settings,
    )

    loaded = load_or_exit(config)
    pending = pending_or_none(AdminAddress.of_settings(loaded.settings.server))
    if as_json:
        document = config_document(loaded)
        for path, value in in_force(pending, loaded.settings).items():
            document["settings"][path]["in_force"] = value
        print_json(document)
    else:
        cells = [(one.path, _text(one.value), str(one.origin)) for one in shown_settings(loaded)]
        print_table(_COLUMNS, cells, piped_head=False, wide=wide)
    say_pending(pending)


@app.command()
@anywhere
def diff(
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show what `gatewayctl reload` would change in the running gateway; exit 1 if none answers."""
    from ollama_gateway.cli.admin import (  # noqa: PLC0415 - asks a gateway
        NoAnswer,
        Refused,
        unanswered,
    )
    from ollama_gateway.cli.pending import ask_pending  # noqa: PLC0415 - as above
    from ollama_gateway.cli.reload import text_of  # noqa: PLC0415

    address = gateway.admin()
    try:
        pending = ask_pending(address)
    except Refused as error:
        exit_with(1, f"gatewayctl config: {unanswered(address, error)}")
    except NoAnswer:
        exit_with(1, f"no gateway at {address.shown} can tell: is it running?")
    if as_json:
        print_json([attrs.asdict(change) for change in pending])
        return
    cures = {False: "reload", True: "restart"}
    rows = [
        (printable(c.path), text_of(c.before), text_of(c.after), cures[c.needs_restart])
        for c in pending
    ]
    if rows:
        print_table(_DIFFERENCES, rows, wide=wide)
    else:
        say("all settings are in force", err=True)


def _source(loaded: Loaded) -> str:
    if loaded.source is None:
        return "no file, only defaults and environment"
    return printable(str(loaded.source))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
