"""`gatewayctl`: all commands. Each is imported when it is run, so that it imports only its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from ollama_gateway.cli.lines import say

CommandLineError: Final[Any] = typer.BadParameter.__base__
"""The base class of typer's errors about the command line; it has no public name."""

COMMANDS: Final = {
    "serve": (
        "serve_command:serve",
        "Serve until SIGTERM or SIGINT, then drain and exit 0; a second signal ends it at once.",
    ),
    "demo": (
        "demo:demo",
        "Show in 20 s what the gateway does when a machine is slow, dies, or a budget is used up.",
    ),
    "init": (
        "init_command:init",
        "Probe the given servers and write settings for them, also for those that are down.",
    ),
    "probe": (
        "probe_command:probe",
        "Ask every backend over the connection that requests use; exit 1 if one does not answer.",
    ),
    "models": (
        "probe_command:models",
        "List the models of each backend and of all together, from the copy in Redis if any.",
    ),
    "pull": (
        "pull_command:pull",
        "Pull MODEL on several backends at once; exit 1 if one of them fails.",
    ),
    "explain": (
        "explain:explain",
        "Show which backends a request for MODEL would go to now, in which order, and why.",
    ),
    "health": (
        "health_command:health",
        "Exit 0 if the gateway is alive; say whether it is ready, and if not, why.",
    ),
    "reload": (
        "reload:reload",
        "Put changed settings in force without a restart; exit 1 if they cannot be.",
    ),
    "usage": ("usage:usage", "Sum up requests and tokens from the audit log."),
    "backup": (
        "backup_command:backup",
        "Back up the keys, the audit log and the budgets of this machine, while gateways run.",
    ),
    "restore": (
        "backup_command:restore",
        "Replace the files of this machine's data directory by those of a backup.",
    ),
    "audit": (
        "audit.commands:app",
        "Look at the audit log: every request and how it ended.",
    ),
    "backends": ("pausing:app", "List, pause and resume backends."),
    "context": ("remote.commands:app", "Name gateways on other machines, and choose one."),
    "keys": ("keys.commands:app", "Create, list, change and revoke API keys."),
    "db": ("db:app", "Prepare the PostgreSQL database and import into it."),
    "config": ("config:app", "Check and show the settings, and start nothing."),
}
"""Each command's `module:function` or, of a group, `module:app`, in `cli/`; and its help, which is
a copy of the first paragraph there (tests/cli/test_commands.py): to list the commands imports
none."""


class Commands(TyperGroup):
    """The commands: stubs with a name and a help, until one is run."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        stubs = {name: TyperCommand(name, help=text) for name, (_, text) in COMMANDS.items()}
        self.commands = cast("Any", stubs)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command to run, or to complete, and import it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and command_named(name), rest


def import_command(name: str) -> Any:
    """Import a command and return its function, or the typer of its group."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    return getattr(import_module(f"ollama_gateway.cli.{module}"), attribute)


def command_named(name: str) -> Any:
    """Import a command and return it as typer runs it."""
    found = import_command(name)
    if isinstance(found, typer.Typer):
        group = get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return get_command(alone)


def _print_version(is_asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if is_asked:
        from importlib.metadata import version  # noqa: PLC0415 - half the cost of a command

        say(f"ollama-gateway {version('ollama-gateway')}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def root(is_version_asked: VersionOption = False) -> None:  # noqa: FBT002 - a flag
    """Ollama Gateway: use several machines that run Ollama as one."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code.

    Its errors are printed here, because typer repeats arguments as they are: a URL with its
    password, control characters.
    """
    try:
        with _completing():
            return cast("int | None", app(arguments, standalone_mode=False)) or 0
    except CommandLineError as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # with that one, typer has printed the help
            _report_misuse(error, arguments)
        return int(error.exit_code)
    except typer.Abort:
        say("Aborted.", err=True)
        return 1


def _completing() -> AbstractContextManager[None]:
    """Return the context for a completion that bash asks for; without one, an empty context."""
    if "COMP_CWORD" not in os.environ:
        return nullcontext()
    from ollama_gateway.cli.completion import bash_words  # noqa: PLC0415 - it reads the settings

    return bash_words(os.environ)


def _report_misuse(error: Any, arguments: Sequence[str]) -> None:
    from ollama_gateway.settings.units import discreet  # noqa: PLC0415 - help needs no settings

    if error.ctx is not None:
        say(error.ctx.get_usage(), err=True)
        say(f"Try '{error.ctx.command_path} --help' for help.", err=True)
    message = str(error.format_message())
    for argument in filter(None, arguments):
        message = message.replace(argument, discreet(argument))
    say(f"Error: {message}", err=True)
