"""Read `[aliases]`: a model, a list of models, or a table for each name.

All come from one source: the variable `GATEWAY_ALIASES` (the same as JSON), else the file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ollama_gateway.models.aliases import Alias, Aliases, WrongAlias, alias_of, faults_of
from ollama_gateway.settings.units import discreet, shown
from ollama_gateway.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ollama_gateway.settings.tables import Origin

VARIABLE: Final = "GATEWAY_ALIASES"
MAX_ALIASES: Final = 1000
"""Aliases of the settings; each pattern is compared with each name that is no model."""
_FIELDS: Final = ("models", "on_full")
_FORMS: Final = "a model, a list of models, or { models = [...], on_full = true }"


def read_aliases(
    document: Mapping[str, object], environ: Mapping[str, str], problems: list[str]
) -> tuple[Aliases, Origin]:
    """Return the aliases in force and their source; problems are lines `aliases.NAME: message`."""
    origin: Origin = "file" if "aliases" in document else "default"
    path, found = "aliases", document.get("aliases", {})
    if text := environ.get(VARIABLE):
        origin, path, found = "environment", VARIABLE, _from_json(text)
    if not isinstance(found, dict):
        form = "a JSON object" if path == VARIABLE else "a table: [aliases]"
        problems.append(f"{path}: must be {form}")
        return Aliases(), origin
    if len(found) > MAX_ALIASES:
        problems.append(f"{path}: more than {MAX_ALIASES} aliases")
        return Aliases(), origin
    read = tuple(alias for name in found if (alias := _read(path, name, found[name], problems)))
    problems += [f"{_named(path, name)}: {fault}" for name, fault in faults_of(read)]
    return Aliases(read), origin


def show_alias(alias: Alias) -> object:
    """Return an alias in the form of a settings file."""
    models = [model.short for model in alias.models]
    return {"models": models, "on_full": True} if alias.on_full else models


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read(path: str, name: str, value: object, problems: list[str]) -> Alias | None:
    table: dict[str, Any] = value if isinstance(value, dict) else {"models": value}
    faults = [
        f"unknown setting {discreet(key)}{did_you_mean(key, _FIELDS)}"
        for key in table
        if key not in _FIELDS
    ]
    models: Any = table.get("models")
    models, on_full = [models] if isinstance(models, str) else models, table.get("on_full", False)
    if "models" not in table:
        faults = [f"must be {_FORMS}; a name with a dot needs quotes"]
    elif not isinstance(models, list):
        faults.append(f"{shown(models)} is not {_FORMS}")
    elif not isinstance(on_full, bool):
        faults.append(f"on_full: {shown(on_full)} is not true or false")
    if not faults:
        try:
            return alias_of(name, models, on_full=on_full)
        except WrongAlias as error:
            faults.append(discreet(str(error)))
    problems += [f"{_named(path, name)}: {fault}" for fault in faults]
    return None


def _named(path: str, name: str) -> str:
    return f"{path}.{shown(name)}"
