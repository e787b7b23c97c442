from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.records import KEY
from tests.support.commands import alone


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty data directory and the chain's key, through the environment."""
    directory = tmp_path / "data"
    directory.mkdir()
    alone(monkeypatch, tmp_path, directory)
    monkeypatch.setenv("GATEWAY_AUDIT_CHAIN_KEY", KEY.decode())
    return directory


@pytest.fixture
def shared(data_dir: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set a database as well; returns its URL."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", database_url)
    return database_url
