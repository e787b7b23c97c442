from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.records import KEY


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty data directory and the chain's key, through the environment."""
    directory = tmp_path / "data"
    directory.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").touch()
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(directory))
    monkeypatch.setenv("GATEWAY_AUDIT_CHAIN_KEY", KEY.decode())
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return directory


@pytest.fixture
def shared(data_dir: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set a database as well; returns its URL."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", database_url)
    return database_url
