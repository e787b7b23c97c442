"""Commands say which settings they use where there is no file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ollama_gateway.cli.main import app
from tests.keys.admin_listener import AdminListener, admin_listener

NO_FILE = "settings: defaults and environment, no gateway.toml here\n"


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """Run a listener on the admin address, in a directory without settings."""
    with admin_listener() as listener:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
        monkeypatch.delenv("GATEWAY_STORAGE_DATA_DIR", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{listener.port}")
        yield listener


def stderr_of(*arguments: str) -> str:
    """Return the lines of stderr but the one about the key store."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    lines = result.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("keys: "))


def test_the_gateway_names_its_file(listener: AdminListener) -> None:
    """The line to type names the gateway's file, quoted for a shell; it is not loaded."""
    listener.says("/status.json", {"settings": "/srv/our gateway/gateway.toml"})
    path = "/srv/our gateway/gateway.toml: add --config '/srv/our gateway/gateway.toml'"

    assert stderr_of("keys", "list") == (
        f"{NO_FILE}the gateway on 127.0.0.1:{listener.port} uses {path}\n"
    )


@pytest.mark.parametrize(
    "status",
    [{"settings": None}, {}, {"settings": 3}, {"settings": "\x1b[2J"}, {"settings": ["/a"]}],
)
def test_what_names_no_file_is_left_out(listener: AdminListener, status: object) -> None:
    """A gateway without a file, an older one and another program name none."""
    listener.says("/status.json", status)

    assert stderr_of("config", "show") == NO_FILE


def test_foreign_text_controls_no_terminal(listener: AdminListener) -> None:
    """A path with control characters is escaped."""
    listener.says("/status.json", {"settings": "/\x1b[2J\n"})

    assert all(line.isprintable() for line in stderr_of("keys", "list").splitlines())


def test_no_line_where_there_is_a_file(listener: AdminListener) -> None:
    """With a file, no line is printed and no gateway is asked."""
    Path("gateway.toml").touch()

    assert stderr_of("keys", "list") == ""
    assert listener.asked == []


def test_no_line_where_the_environment_names_the_data(
    listener: AdminListener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A gateway that is set up by variables, as in a container, has no file to look for."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(tmp_path / "data"))

    assert stderr_of("keys", "list") == ""
    assert listener.asked == []


def test_help_version_and_health_say_nothing(listener: AdminListener) -> None:
    """Only commands that use the settings say where these come from."""
    listener.says("/healthz", {"alive": True})
    listener.says("/readyz", {"ready": True, "reasons": []})
    listener.says("/status.json", {"settings": "/a"})

    for arguments in (["--version"], ["-h"], ["keys", "list", "-h"], ["health"], ["health", "-h"]):
        assert stderr_of(*arguments) == ""
