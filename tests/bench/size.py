"""The cost of many backends and models: `python -m tests.bench.size --backends 50 --models 200`.

With `--records N` the cost of a long audit log is measured instead (`audit_size.py`), or with
`--postgres` that of one in PostgreSQL (`size_postgres.py`).

Each backend lists models of its own. The first table is the CPU time of a round of polls and the
longest time for which another task waited meanwhile; the second is the time on the event loop of
one request for the list of all models. With `--waiting` the tables are those of the waiting line
(`line.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio

from ollama_gateway import log_output
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.build_backends import build_backends
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.keys.key import Principal
from ollama_gateway.server.encoded import EncodedLists
from ollama_gateway.server.listings import Listings
from ollama_gateway.settings import load
from tests.bench import audit_size, line
from tests.bench.size_postgres import measure_postgres
from tests.bench.waiting import LongestWait

Work = Callable[[], Awaitable[object]]

ROUNDS: Final = 5
DATE: Final = "2026-01-01T00:00:00.000000Z"


def _entry(backend: int, number: int) -> dict[str, Any]:
    name = f"model-{backend}-{number}:latest"
    details = {"format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "8B"}
    digest = f"{backend * 100_000 + number:064x}"
    times = {"modified_at": DATE, "size": 4_000_000_000}
    return {"name": name, "model": name, **times, "digest": digest, "details": details}


async def _serve(backends: int, models: int) -> None:
    """Answer polls on a port for each backend, and print the ports.

    The hidden path `/change` makes the first backend list one model less.
    """
    counts = [models] * backends

    def body(backend: int, path: bytes) -> bytes:
        if path == b"/change":
            counts[0] -= 1
        if path == b"/api/tags":
            entries = [_entry(backend, number) for number in range(counts[backend])]
            return json.dumps({"models": entries}, separators=(",", ":")).encode()
        return b'{"models":[]}' if path == b"/api/ps" else b'{"version":"0.33.0"}'

    async def answer(
        backend: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            found = body(backend, head.split(b" ", 2)[1])
            length = f"HTTP/1.1 200 OK\r\nContent-Length: {len(found)}\r\n\r\n"
            writer.write(length.encode() + found)

    ports = []
    for backend in range(backends):

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: int = backend
        ) -> None:
            try:
                await answer(backend, reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
    sys.stdout.write(f"{json.dumps(ports)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def _cpu(work: Work) -> float:
    """Return the CPU time of some work, in ms."""
    before = time.process_time()
    await work()
    return (time.process_time() - before) * 1000


async def _wait(work: Work) -> float:
    """Return the longest wait of another task during some work, in ms."""
    waits = LongestWait()
    async with anyio.create_task_group() as group:
        group.start_soon(waits.watch)
        await anyio.sleep(0.01)
        waits.longest = 0.0
        await work()
        await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    return waits.longest * 1000


async def _measure(ports: list[int], directory: Path) -> None:
    log_output.configure("error", "text")
    names = ",".join(f"b{place}=http://127.0.0.1:{port}" for place, port in enumerate(ports))
    environment = {"OLLAMA_BACKENDS": names, "GATEWAY_STORAGE_DATA_DIR": str(directory)}
    settings = load(environ=environment, cwd=directory).settings
    backends = build_backends(settings, most_idle=2)
    discovery = BackendDiscovery(backends, interval=10, timeout=30)

    async def poll() -> None:
        for backend in backends.all:
            await discovery.poll_once(backend)

    async def change() -> None:
        request = backends.all[0].outgoing.request("GET", "/change", [])
        await (await backends.all[0].transport.handle_async_request(request)).aclose()

    async def changed() -> None:
        await change()
        await poll()

    await poll()
    _head("a round of polls")
    _print("nothing has changed", await _best(_cpu, poll), await _best(_wait, poll))
    _print("a model of a backend is gone", await _best(_cpu, changed), await _best(_wait, changed))
    await _lists(backends)
    await backends.aclose()


async def _lists(backends: Backends) -> None:
    lists = Listings(None, Resolver(backends))  # type: ignore[arg-type]  # no key is looked up
    principal = Principal("id", "name", ("*",), frozenset())

    async def ask() -> None:
        await lists.native.body(backends.catalog.models, principal)

    async def make() -> None:
        await EncodedLists(lists.native.encode, lists.native.wrap).body(
            backends.catalog.models, principal
        )

    _head(f"a list of {len(backends.catalog.hosts):,} models")
    await ask()
    _print("made in turns", await _best(_cpu, make), await _best(_wait, make))
    _print("asked for again", await _best(_cpu, ask), await _best(_wait, ask))


async def _best(measure: Callable[[Work], Awaitable[float]], work: Work) -> float:
    """Return the least of some measurements, as other programs disturb them."""
    return min([await measure(work) for _ in range(ROUNDS)])


def _print(what: str, spent: float, wait: float) -> None:
    sys.stdout.write(f"{what:<34}{spent:>8.1f}{wait:>17.1f}\n")


def _head(what: str) -> None:
    sys.stdout.write(f"\n{what:<34}{'CPU ms':>8}{'longest wait ms':>17}\n")


def main() -> None:
    """Start the backends and print the tables."""
    parser = argparse.ArgumentParser(description="Measure many backends and models.")
    parser.add_argument("--backends", type=int, default=50)
    parser.add_argument("--models", type=int, default=200, help="of each backend")
    parser.add_argument("--records", type=int, help="of an audit log, which is measured instead")
    parser.add_argument("--waiting", type=int, help="measure a line of so many requests instead")
    parser.add_argument(
        "--postgres", action="store_true", help="have these records in PostgreSQL, not in a journal"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.waiting:
        log_output.configure("error", "text")
        anyio.run(line.measure, given.backends, given.waiting, backend="trio")
        return
    if given.serve:
        asyncio.run(_serve(given.backends, given.models))
    if given.records and given.postgres:
        measure_postgres(given.records)
        return
    if given.records:
        log_output.configure("error", "text")
        with tempfile.TemporaryDirectory() as name:
            anyio.run(audit_size.measure, Path(name), given.records, backend="trio")
        return
    command = [sys.executable, "-m", "tests.bench.size", "--serve"]
    sizes = ["--backends", str(given.backends), "--models", str(given.models)]
    with (
        subprocess.Popen([*command, *sizes], stdout=subprocess.PIPE, env=os.environ) as serving,
        tempfile.TemporaryDirectory() as directory,
    ):
        assert serving.stdout is not None
        try:
            ports = json.loads(serving.stdout.readline())
            anyio.run(_measure, ports, Path(directory), backend="trio")
        finally:
            serving.kill()


if __name__ == "__main__":
    main()
