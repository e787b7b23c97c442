"""The names of keys, backends and models, to complete them in a shell and to find a mistyped one.

They are those of a gateway that is asked by HTTP, or of this machine's settings. What cannot be
read counts as having no names: neither use is worth an error of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.settings import Settings

ANSWER_SECONDS = 1.0
"""Seconds that the gateway has to answer."""


def key_names(place: Settings | AdminAddress) -> list[str]:
    """Return the names of all keys; of another machine's, the first page."""
    return [name for name, _ in _keys(place)]


def key_names_and_ids(place: Settings | AdminAddress) -> list[str]:
    """Return all texts by which commands take a key."""
    return [text for pair in _keys(place) for text in pair]


def _keys(place: Settings | AdminAddress) -> Sequence[tuple[str, str]]:
    """Return the names and ids of all keys; no store is made for that."""
    if isinstance(place, AdminAddress):
        found = _asked(place, "/admin/v1/keys?limit=1000", "items")
        return list(zip(_texts(found, "name"), _texts(found, "id"), strict=False))
    from ollama_gateway.cli.keys.store import location_in  # noqa: PLC0415 - slow to import
    from ollama_gateway.keys.key import StoreError  # noqa: PLC0415 - as above
    from ollama_gateway.keys.location import KEYS_FILE  # noqa: PLC0415 - as above

    storage = place.storage
    if storage.database_url is None and not (storage.data_dir / KEYS_FILE).exists():
        return []
    try:
        with closing(location_in(place).open()) as store:
            return [(key.name, key.id) for key in store.list()]
    except StoreError:
        return []


def backend_names(place: Settings | AdminAddress) -> list[str]:
    """Return the names of the backends."""
    if isinstance(place, AdminAddress):
        return _texts(_asked(place, "/admin/v1/backends?limit=1000", "items"), "name")
    return [backend.name for backend in place.backends]


def model_names(place: Settings | AdminAddress) -> list[str]:
    """Return the names of the models that the running gateway lists."""
    address = place
    if not isinstance(address, AdminAddress):
        address = AdminAddress.of_settings(address.server)
    return [name for name in _asked(address, "/models.json", "models") if isinstance(name, str)]


def _asked(address: AdminAddress, path: str, field: str) -> list[object]:
    from ollama_gateway.cli.admin import NoAnswer, ask  # noqa: PLC0415 - slow to import

    try:
        found = ask(address, path, seconds=ANSWER_SECONDS).value.get(field)
    except NoAnswer:
        return []
    return found if isinstance(found, list) else []


def _texts(found: list[object], field: str) -> list[str]:
    values = [one.get(field) for one in found if isinstance(one, dict)]
    return [value for value in values if isinstance(value, str)]
