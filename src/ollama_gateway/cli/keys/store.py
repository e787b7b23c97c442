"""Open the key store of the settings for commands.

Every command prints on stderr which store it uses, since the most common mistake is to change keys
in a file that no gateway reads. If the store refuses, the reasons are printed and the command ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from ollama_gateway.cli.output import exit_with, say
from ollama_gateway.keys.key import KeyRefused, StoreError, WrongValue
from ollama_gateway.keys.location import KeyStoreLocation, location_of
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings


def location_in(settings: Settings) -> KeyStoreLocation:
    """Return the location of the key store of these settings."""
    url = settings.storage.database_url
    return location_of(settings.storage.data_dir, url.reveal() if url else None)


@contextmanager
def open_key_store(settings: Settings, command: str = "gatewayctl keys") -> Iterator[KeyStore]:
    """Open and check the store of the settings; exit with code 1 or 2 if that fails."""
    location = location_in(settings)
    say(f"keys: {printable(str(location))}", err=True)
    with exit_on_refusal(command), closing(location.open()) as store:
        store.check()
        yield store


@contextmanager
def exit_on_refusal(command: str) -> Iterator[None]:
    """End the command if a store refuses: exit code 2 for a value that no store accepts, else 1."""
    try:
        yield
    except (StoreError, KeyRefused) as error:
        lines = [f"{command}: {line}" for line in str(error).splitlines()]
        exit_with(2 if isinstance(error, WrongValue) else 1, *lines)
