from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.keys.looking import Look, looking
from tests.keys.stores import WallClock, in_postgres, open_sqlite
from tests.support.commands import alone


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the store."""
    return tmp_path / "keys.db"


@pytest.fixture
def command(path: Path) -> Iterator[SQLiteKeys]:
    """The store as another process, `gatewayctl keys`, has it open."""
    with closing(SQLiteKeys(path)) as store:
        yield store


@pytest.fixture
async def look(path: Path) -> AsyncIterator[Look]:
    """A gateway's view of the store, in virtual time."""
    async with looking(path) as opened:
        yield opened


@pytest.fixture
def clock() -> WallClock:
    """The store's clock."""
    return WallClock()


@pytest.fixture(params=["sqlite", "postgres"])
def reopen(
    request: pytest.FixtureRequest, tmp_path: Path, clock: WallClock
) -> Iterator[Callable[[], KeyStore]]:
    """Opens the same store, empty at first, at each call."""
    if request.param == "sqlite":
        opener = partial(open_sqlite, tmp_path, clock)
    else:
        opener = partial(in_postgres, request.getfixturevalue("database_url"), clock)
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(opener()))


@pytest.fixture
def store(reopen: Callable[[], KeyStore]) -> KeyStore:
    """An empty store."""
    return reopen()


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Settings from the environment and an empty file: no data yet, no gateway that answers."""
    alone(monkeypatch, tmp_path, tmp_path / "data")
    with socket.socket() as taken:  # bound and not listening: a connect is refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{taken.getsockname()[1]}")
        yield tmp_path / "data"
