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
    """What a command that succeeds prints."""
    result = run(*arguments)
    assert (result.exit_code, result.exception) == (0, None), result.stderr
    return result.stdout


def as_json(*arguments: str) -> Any:
    """The same as a value."""
    return json.loads(ran(*arguments, "--json"))
