"""The settings in force, as documents without secrets."""

from __future__ import annotations

import json
from typing import Any

import attrs

from ollama_gateway.settings import Loaded
from ollama_gateway.settings.alias_table import show_alias
from ollama_gateway.settings.changes import visible
from ollama_gateway.settings.model import SECTIONS, fields_of

ConfigDocument = dict[str, Any]


@attrs.frozen
class ShownSetting:
    """One setting in the output."""

    path: str
    value: Any
    """The value as a settings file has it, in a type that JSON has."""
    origin: str | None
    """`default`, `file` or `environment`; None if it is not known."""


def shown_settings(loaded: Loaded) -> list[ShownSetting]:
    """Return every setting in force, in the order of the file."""
    settings, origins = loaded.settings, loaded.origins
    server, *others = [(name, getattr(settings, name)) for name in SECTIONS]
    backends = [(f"backends[{i}]", backend) for i, backend in enumerate(settings.backends)]
    models = [(f"models[{i}]", rules) for i, rules in enumerate(settings.models)]
    fixed = [
        ShownSetting(path, visible(getattr(value, field.name), field.type), origins.get(path))
        for name, value in [server, *backends, *models, *others]
        for field in fields_of(type(value))
        for path in [f"{name}.{field.name}"]
    ]
    origin = origins.get("aliases")
    return fixed + [
        ShownSetting(f"aliases.{json.dumps(alias.name)}", show_alias(alias), origin)
        for alias in settings.aliases.all
    ]


def config_document(loaded: Loaded) -> ConfigDocument:
    """Return every setting with its value and its source."""
    settings = {
        one.path: {"value": one.value, "origin": one.origin} for one in shown_settings(loaded)
    }
    return {"source": None if loaded.source is None else str(loaded.source), "settings": settings}
