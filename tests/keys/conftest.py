from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.keys.sqlite import SQLiteKeys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "keys.db"


@pytest.fixture
def command(path: Path) -> Iterator[SQLiteKeys]:
    """The store as `gatewayctl keys`, another process, has it open."""
    with closing(SQLiteKeys(path)) as store:
        yield store
