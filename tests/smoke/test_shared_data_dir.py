"""The gateway and the commands refuse a data directory that others may write to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.smoke.fleet import addresses, ctl, running

COMMANDS = (
    ("config", "check"),
    ("keys", "list"),
    ("keys", "create", "x"),
    ("audit", "list"),
    ("audit", "verify"),
    ("usage",),
    ("db", "import-local"),
    ("backends", "list"),
    ("backends", "pause", "default"),
)


def settings_for(directory: Path) -> dict[str, str]:
    """Return the settings of a gateway."""
    return {**addresses(), "GATEWAY_STORAGE_DATA_DIR": str(directory)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a directory with keys in it."""
    directory = tmp_path / "data"
    assert ctl("keys", "create", "a", environment=settings_for(directory)).returncode == 0
    return directory


@pytest.mark.parametrize(("name", "mode"), [(".", 0o777), (".", 0o1777), ("keys.db", 0o666)])
def test_it_is_refused(data: Path, name: str, mode: int) -> None:
    """The refusal is exit code 2 and a line with the file, the remedy and the setting."""
    path, environment = data / name, settings_for(data)
    path.chmod(mode)
    said = f"storage.data_dir: {path} others may write (mode {mode:04o}): chmod go-w it, or set "
    with running("ollama_gateway", "serve", environment=environment) as gateway:
        gateway.wait_for(said + "storage.allow_shared_data_dir")
        assert gateway.popen.wait(30) == 2
    for command in COMMANDS:
        if command[0] == "db":
            environment["GATEWAY_STORAGE_DATABASE_URL"] = "postgresql://127.0.0.1:1/x"
        result = ctl(*command, environment=environment)
        assert result.returncode == 2, command
        assert said in result.stderr, command
    assert path.stat().st_mode & 0o7777 == mode


def test_keys_of_a_neighbour_are_refused(data: Path, tmp_path: Path) -> None:
    """Keys that another user may have replaced are not used."""
    other = tmp_path / "other"
    assert ctl("keys", "create", "evil", environment=settings_for(other)).returncode == 0
    shutil.copy(other / "keys.db", data / "keys.db")
    (data / "keys.db").chmod(0o622)
    assert ctl("keys", "list", environment=settings_for(data)).returncode == 2


def test_it_can_be_allowed(data: Path) -> None:
    """`allow_shared_data_dir` allows it."""
    data.chmod(0o777)
    environment = {**settings_for(data), "GATEWAY_STORAGE_ALLOW_SHARED_DATA_DIR": "true"}
    assert ctl("keys", "list", environment=environment).returncode == 0
    with running("ollama_gateway", "serve", environment=environment) as gateway:
        gateway.wait_for("serving")
        assert gateway.stop() == 0
    assert data.stat().st_mode & 0o777 == 0o777


def test_an_empty_one_of_our_own_is_closed(tmp_path: Path) -> None:
    """An empty directory of our own user is made private, with a warning."""
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o777)
    environment = settings_for(directory)
    assert ctl("keys", "list", environment=environment).returncode == 2
    with running("ollama_gateway", "serve", environment=environment) as gateway:
        gateway.wait_for("storage.data_dir: was empty and open to others (mode 0777)")
        gateway.wait_for("serving")
        assert gateway.stop() == 0
    assert directory.stat().st_mode & 0o777 == 0o700
    assert ctl("keys", "list", environment=environment).returncode == 0
