"""The settings: one frozen value with units, made from a TOML file and the environment.

Start in `model.py`, the list of all settings; `load.py` makes the value. Only the modules that
build the gateway, the parent of processes and the commands use these classes.
"""

from __future__ import annotations

from ollama_gateway.settings.addresses import ListenAddress
from ollama_gateway.settings.load import Loaded, SettingsError, load
from ollama_gateway.settings.model import (
    AffinitySettings,
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
    "AffinitySettings",
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
