"""The settings: one frozen value with units, made from a TOML file and the environment.

Start in `model.py`, which is the list of all settings; `load.py` is the way to one. Only
`build.py` and the commands look at these classes.
"""

from __future__ import annotations

from ollama_gateway.settings.load import Loaded, SettingsError, load
from ollama_gateway.settings.model import (
    Audit,
    Auth,
    Backend,
    Discovery,
    Limits,
    Log,
    Race,
    Redis,
    Server,
    Settings,
    Storage,
)
from ollama_gateway.settings.places import Address
from ollama_gateway.settings.secret import Secret

__all__ = [
    "Address",
    "Audit",
    "Auth",
    "Backend",
    "Discovery",
    "Limits",
    "Loaded",
    "Log",
    "Race",
    "Redis",
    "Secret",
    "Server",
    "Settings",
    "SettingsError",
    "Storage",
    "load",
]
