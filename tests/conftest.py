"""The one option of this suite, and the servers that several of its parts use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Final

import pytest

from tests.support.postgres_server import PostgresServer, private_postgres
from tests.support.virtual_time import run_in_virtual_time

NAMED_ONLY: Final = tuple(
    Path(__file__).parent / name for name in ("newcomer", "podman", "proxies")
)
"""Folders with a tox environment of their own, which names them."""
VANISHED: Final = Path(__file__).parent / "campaign" / "test_vanished.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave to others what needs root, the network, or programs that a machine may not have.

    What loses packets is for the campaign.
    """
    if collection_path == VANISHED and not config.getoption("full"):
        return True
    if collection_path not in NAMED_ONLY:
        return None
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(collection_path) for path in named) else True


def pytest_configure(config: pytest.Config) -> None:
    """Hide the user's contexts, and make known the mark of tests that run in virtual time."""
    os.environ.pop("GATEWAYCTL_CONTEXT", None)
    os.environ["XDG_CONFIG_HOME"] = "/nonexistent"  # the contexts of who runs the tests
    config.addinivalue_line("markers", "virtual_time: run coroutines in virtual time, from 0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give marked tests their clock; pytest-trio takes the first mark that names a runner."""
    for item in items:
        is_coroutine = isinstance(item, pytest.Function) and iscoroutinefunction(item.obj)
        if is_coroutine and item.get_closest_marker("virtual_time"):
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time), append=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`."""
    parser.addoption("--full", action="store_true", help="run tests/campaign in full size")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private PostgreSQL for the whole run."""
    with private_postgres() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may stop."""
    with private_postgres() as server:
        yield server


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """A database of the test's own, migrated, on the common server."""
    with postgres.fresh_database() as name:
        yield postgres.url_of(name)
