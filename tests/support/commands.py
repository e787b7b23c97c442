"""`gatewayctl`, run in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ollama_gateway.cli.main import app


def alone(monkeypatch: pytest.MonkeyPatch, directory: Path, data_dir: Path) -> None:
    """Let commands run in a directory with an empty settings file, the environment, wide output."""
    monkeypatch.chdir(directory)
    (directory / "gateway.toml").touch()
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(data_dir))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    """Run a command; fail if it crashes."""
    result = CliRunner().invoke(app, arguments, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def ran(*arguments: str, stdin: str = "") -> str:
    """Run a command that succeeds; return its output."""
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.exception) == (0, None), result.stderr
    return result.stdout


def as_json(*arguments: str) -> Any:
    """Return the output of a command as a JSON value."""
    return json.loads(ran(*arguments, "--json"))


def failed(*arguments: str, code: int = 1, stdin: str | bytes = "") -> str:
    """Return the last line of stderr of a command that fails; it prints nothing else."""
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (code, "")
    return result.stderr.splitlines()[-1]
