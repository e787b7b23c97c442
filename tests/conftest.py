"""The one option of this suite, and the servers that several of its parts use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres_server import PostgresServer, private_postgres


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`."""
    parser.addoption("--full", action="store_true", help="run tests/campaign in full size")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private PostgreSQL for the whole run, whose template `migrated` has the tables."""
    with private_postgres() as server:
        server.make_template()
        yield server


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """A database of the test's own, migrated, on the common server."""
    with postgres.fresh_database() as name:
        yield postgres.url_of(name)
