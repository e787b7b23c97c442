"""Options that every command line has."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from ollama_gateway.cli.main import app


def test_the_version() -> None:
    """`--version` prints the version that is installed."""
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"ollama-gateway {version('ollama-gateway')}\n")


@pytest.mark.parametrize("command", [[], ["keys"], ["keys", "list"], ["backends", "pause"]])
def test_h_is_help(command: list[str]) -> None:
    """`-h` prints what `--help` prints, for commands and groups."""
    short, long = (CliRunner().invoke(app, [*command, flag]) for flag in ("-h", "--help"))

    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert "Usage: " in short.stdout
