"""Print the next step of the first hour, ready to paste, to people at a terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

from ollama_gateway.cli.reaching import is_listening, public_url
from ollama_gateway.settings import Settings
from ollama_gateway.settings.files import SYSTEM_FILE


def after_new_key(settings: Settings, key: str) -> list[str]:
    """Return the commands that use a key just made, or that start the gateway for it."""
    if not is_listening(settings.server.bind):
        return [with_config("gatewayctl serve", settings)]
    return requests_with(settings, key)


def requests_with(settings: Settings, key: str) -> list[str]:
    """Return two commands of a client: one that lists the models, one that chats."""
    url = public_url(settings.server)
    return [
        f"curl {url}/api/tags -H 'Authorization: Bearer {key}'",
        f"OLLAMA_HOST={url}/k/{key} ollama run MODEL",
    ]


def with_config(command: str, settings: Settings) -> str:
    """Return a command that uses the file of these settings."""
    found_anyway = {None, Path.cwd() / "gateway.toml", SYSTEM_FILE}
    if settings.source in found_anyway:
        return command
    return f"{command} --config {shlex.quote(str(settings.source))}"
