"""The settings: one frozen value with units, made from a TOML file and the environment.

Start in `model.py`, which is the list of all settings; `load.py` is the way to one. Only
`build.py` and the commands look at these classes.
"""

from __future__ import annotations

from ollama_gateway.settings.addresses import ListenAddress
from ollama_gateway.settings.load import Loaded, SettingsError, load
from ollama_gateway.settings.model import (
    AuditSettings,
    AuthSettings,
    BackendSettings,
    DiscoverySettings,
    LimitSettings,
    LogSettings,
    RaceSettings,
    RedisSettings,
    ServerSettings,
    Settings,
    StorageSettings,
)
from ollama_gateway.settings.secret import SecretText

__all__ = [
    "AuditSettings",
    "AuthSettings",
    "BackendSettings",
    "DiscoverySettings",
    "LimitSettings",
    "ListenAddress",
    "Loaded",
    "LogSettings",
    "RaceSettings",
    "RedisSettings",
    "SecretText",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "load",
]
