"""Say which settings a command uses where there is no settings file.

A command that runs in the wrong directory finds no file, and would look at another key store than
the gateway does, or at none. So it says what it uses, and asks the gateway on the admin address
which file it has. It never loads that file by itself: what answers there need not be a gateway.
Where the environment names the data directory or the database, as in containers, it prints nothing.
"""

from __future__ import annotations

import shlex
from typing import Final

from ollama_gateway.cli.lines import say
from ollama_gateway.cli.reaching import is_listening
from ollama_gateway.printable import printable
from ollama_gateway.settings import ServerSettings, Settings
from ollama_gateway.settings.model import StorageSettings

ANSWER_SECONDS: Final = 1.0
"""Seconds that a command waits for the gateway before it goes on without this answer."""


def say_source(settings: Settings) -> None:
    """Print lines on stderr if neither a file nor a variable names the place of the data."""
    if settings.source is not None or settings.storage != StorageSettings():
        return
    say("settings: defaults and environment, no gateway.toml here", err=True)
    if path := _file_of_gateway(settings.server):
        address = settings.server.admin_bind
        say(f"the gateway on {address} uses {path}: add --config {shlex.quote(path)}", err=True)


def _file_of_gateway(server: ServerSettings) -> str | None:
    """Ask the running gateway for its settings file; None if there is no answer in time."""
    if not is_listening(server.admin_bind):
        return None
    from ollama_gateway.cli.admin import NoAnswer, ask  # noqa: PLC0415 - slow to import
    from ollama_gateway.cli.remote.address import AdminAddress  # noqa: PLC0415 - as above

    try:
        address = AdminAddress.of_settings(server)
        found = ask(address, "/status.json", seconds=ANSWER_SECONDS).value.get("settings")
    except NoAnswer:
        return None
    return printable(found) if isinstance(found, str) and found.startswith("/") else None
