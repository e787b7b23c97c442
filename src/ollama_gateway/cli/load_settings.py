"""Load the settings for a command, or end it.

Problems and warnings go to stderr, one a line, each beginning with the path of its setting or the
name of its variable. Without typer, which `health` does without (`cli/health.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ollama_gateway.cli.lines import exit_with, say
from ollama_gateway.settings import Loaded, Settings, SettingsError, load

EXIT_SETTINGS: Final = 2
"""The exit code for settings that cannot be used."""


def load_or_exit(config: Path | None) -> Loaded:
    """Load the settings, and print warnings and where they come from if there is no file.

    On problems, print them and exit with code 2.
    """
    from ollama_gateway.cli.source import say_source  # noqa: PLC0415 - `health` needs it not

    loaded = load_silently(config)
    say_source(loaded.settings)
    return loaded


def load_silently(config: Path | None) -> Loaded:
    """Load the settings and print only warnings; on problems, print them and exit with code 2."""
    loaded = settings_or_exit(config)
    warn(loaded)
    return loaded


def settings_or_exit(config: Path | None) -> Loaded:
    """Load the settings for a caller that reports warnings itself; exit with code 2 on problems."""
    try:
        return load(config)
    except SettingsError as exc:
        exit_with(EXIT_SETTINGS, *exc.problems)


def load_for_stores(config: Path | None) -> Settings:
    """Load the settings to open stores with; exit with code 2 if other users may write them."""
    from ollama_gateway.cli import data_dir  # noqa: PLC0415 - others open no store

    settings = load_or_exit(config).settings
    exit_on_problems(data_dir.faults_of(settings, data_dir.trusted_by_commands(settings)))
    return settings


def exit_on_problems(problems: Sequence[str]) -> None:
    """Print the problems and exit with code 2, if there are any."""
    if problems:
        exit_with(EXIT_SETTINGS, *problems)


def warn(loaded: Loaded) -> None:
    """Print the warnings of the settings."""
    for warning in loaded.warnings:
        say(f"warning: {warning}", err=True)
