"""The options of `gatewayctl backup` and `gatewayctl restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollama_gateway.cli.options import ConfigOption, JsonOption
from ollama_gateway.cli.remote.here_only import here_only

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The archive, a tar file.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Restore without asking.")]


@here_only("reads the files of this machine's gateway")
def backup(
    file: FileArgument,
    force: ForceOption = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Back up the keys, the audit log and the budgets of this machine, while gateways run.

    If the keys are in PostgreSQL, back that up with its own tools.
    """
    from ollama_gateway.cli.backup import backup as run  # noqa: PLC0415 - imports the stores

    run(file, config, force=force, as_json=as_json)


@here_only("replaces files of this machine")
def restore(
    file: FileArgument,
    yes: YesOption = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Replace the files of this machine's data directory by those of a backup.

    No gateway may run. The command shows which revoked keys would be valid again and what would be
    lost, and asks; without a terminal or with --json, and without --yes, it only shows that and
    exits with 2. The files it replaces are kept.
    """
    from ollama_gateway.cli.backup import restore as run  # noqa: PLC0415 - as above

    run(file, config, yes=yes, as_json=as_json)
