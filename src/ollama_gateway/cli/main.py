"""`gatewayctl`: all commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import typer

from ollama_gateway.cli import (
    backends,
    backup,
    config,
    db,
    demo,
    explain,
    health,
    init,
    pausing,
    pull,
    serve,
    usage,
)
from ollama_gateway.cli.audit import commands as audit
from ollama_gateway.cli.keys import commands as keys
from ollama_gateway.cli.output import say
from ollama_gateway.settings.units import discreet

CommandLineError: Final[Any] = typer.BadParameter.__base__
"""The base class of typer's errors about the command line; it has no public name."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ollama Gateway: use several machines that run Ollama as one.",
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("probe")(backends.probe)
app.command("models")(backends.models)
app.command("pull")(pull.pull)
app.command("explain")(explain.explain)
app.command("health")(health.health)
app.command("usage")(usage.usage)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(audit.app, name="audit")
app.add_typer(pausing.app, name="backends")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code.

    Its errors are printed here, because typer repeats arguments as they are: a URL with its
    password, control characters.
    """
    try:
        return cast("int | None", app(arguments, standalone_mode=False)) or 0
    except CommandLineError as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # with that one, typer has printed the help
            _report_misuse(error, arguments)
        return int(error.exit_code)
    except typer.Abort:
        say("Aborted.", err=True)
        return 1


def _report_misuse(error: Any, arguments: Sequence[str]) -> None:
    if error.ctx is not None:
        say(error.ctx.get_usage(), err=True)
        say(f"Try '{error.ctx.command_path} --help' for help.", err=True)
    message = str(error.format_message())
    for argument in filter(None, arguments):
        message = message.replace(argument, discreet(argument))
    say(f"Error: {message}", err=True)
