"""The names of keys, backends and models, to complete them in a shell and to find a mistyped one.

What cannot be read counts as having no names: neither use is worth an error of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.settings import Settings

if TYPE_CHECKING:
    from ollama_gateway.keys.key import APIKey

ANSWER_SECONDS = 1.0
"""Seconds that the running gateway has to list its models."""


def key_names(settings: Settings) -> list[str]:
    """Return the names of all keys."""
    return [key.name for key in _keys(settings)]


def key_names_and_ids(settings: Settings) -> list[str]:
    """Return all texts by which commands take a key."""
    return [text for key in _keys(settings) for text in (key.name, key.id)]


def _keys(settings: Settings) -> Sequence[APIKey]:
    """Return all keys; no store is made for that."""
    from ollama_gateway.cli.keys.store import location_in  # noqa: PLC0415 - slow to import
    from ollama_gateway.keys.key import StoreError  # noqa: PLC0415 - as above
    from ollama_gateway.keys.location import KEYS_FILE  # noqa: PLC0415 - as above

    storage = settings.storage
    if storage.database_url is None and not (storage.data_dir / KEYS_FILE).exists():
        return []
    try:
        with closing(location_in(settings).open()) as store:
            return store.list()
    except StoreError:
        return []


def backend_names(settings: Settings) -> list[str]:
    """Return the names of the backends in the settings."""
    return [backend.name for backend in settings.backends]


def model_names(settings: Settings) -> list[str]:
    """Return the names of the models that the running gateway lists."""
    from ollama_gateway.cli.admin import NoAnswer, ask  # noqa: PLC0415 - slow to import

    try:
        found = ask(settings.server, "/models.json", seconds=ANSWER_SECONDS).value.get("models")
    except NoAnswer:
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
