"""One fleet for the whole run, because starting processes takes most of the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.smoke.fleet import Fleet, fleet


@pytest.fixture
def own_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that the test may break."""
    with fleet(tmp_path / "data", GATEWAY_SERVER_DRAIN_TIMEOUT="2s") as started:
        yield started


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that tests do not change but for new keys and requests."""
    with fleet(tmp_path_factory.mktemp("data")) as started:
        yield started
