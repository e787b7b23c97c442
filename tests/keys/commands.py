"""`gatewayctl keys ...`, run in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from ollama_gateway.cli.keys.commands import app


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    """Run `gatewayctl keys ...`."""
    return CliRunner().invoke(app, arguments, input=stdin)


def ran(*arguments: str) -> str:
    """Run a command that succeeds; return its output."""
    result = run(*arguments)
    assert (result.exit_code, result.exception) == (0, None), result.stderr
    return result.stdout


def as_json(*arguments: str) -> Any:
    """Return the output as a JSON value."""
    return json.loads(ran(*arguments, "--json"))
