from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.records import KEY


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings from the environment alone: an empty data directory, and the key of the chain."""
    directory = tmp_path / "data"
    directory.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(directory))
    monkeypatch.setenv("GATEWAY_AUDIT_CHAIN_KEY", KEY.decode())
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return directory


@pytest.fixture
def shared(data_dir: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same settings with a database, by its URL."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", database_url)
    return database_url
