from __future__ import annotations

from pathlib import Path

import pytest

from tests.backup.data import backed_up, filled


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty data directory."""
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A backup of a filled directory."""
    directory, path = tmp_path / "backed-up", tmp_path / "gateway.tar"
    directory.mkdir(mode=0o700)
    filled(directory)
    backed_up(directory, path)
    return path
