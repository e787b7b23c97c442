"""A gateway, its simulators and its clients in one loop, on real sockets and by one clock.

The gateway comes from `build` and has its own listener. Discovery does not run; each backend is
polled once. Audit records are kept with the time of their end.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.build import build
from ollama_gateway.gateway import Gateway
from ollama_gateway.http.binding import bind
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.settings import Settings, load
from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.simulator.exchange import Seen
from tests.campaign.visit import PATH, Visit
from tests.smoke.fleet import PATIENCE


def chats_seen(simulator: Simulator) -> dict[str, Seen]:
    """Return the requests for chats that a simulator saw, by prompt."""
    chats = [seen for seen in simulator.seen if seen.path == PATH and seen.body]
    return {json.loads(seen.body)["messages"][0]["content"]: seen for seen in chats}


@attrs.frozen
class Ended:
    """An audit record, and when it was written."""

    record: AuditRecord
    at: float

    @property
    def won_at(self) -> float:
        """When the winner's first good chunk arrived."""
        after = [a.first_chunk for a in self.record.attempts if a.first_chunk is not None]
        return self.record.arrived + after[0]


@attrs.frozen
class Resources:
    """Resources that requests might leak: the same before and after them."""

    files: int
    """Open descriptors of the process, which runs gateway, simulators and clients."""
    tasks: int
    connections: tuple[int, ...]
    """Open connections to each backend."""
    in_flight: tuple[int, ...]
    """Slots taken at each backend."""
    unanswered: tuple[int, ...]
    """Attempts at each backend that discovery could end."""
    waiting: int
    running: int
    """Requests that are running."""
    clients: int
    """Connections to clients."""


@attrs.define(eq=False)
class RunningGateway:
    """The gateway, its clients and its backends."""

    gateway: Gateway
    simulators: Mapping[str, Simulator]
    port: int
    key: str
    ended: list[Ended]

    @property
    def records(self) -> dict[str, Ended]:
        """Records of requests that ended, by request id."""
        return {ended.record.request_id: ended for ended in self.ended}

    @property
    def backends(self) -> tuple[Backend, ...]:
        """In the order of preference."""
        return self.gateway.backends.all

    @property
    def resources(self) -> Resources:
        """Count the resources in use now."""
        transports = [b.transport for b in self.backends]
        return Resources(
            len(os.listdir("/dev/fd")),  # noqa: PTH208 - names are enough
            trio.lowlevel.current_statistics().tasks_living,
            tuple(transport.open_connections for transport in transports),
            tuple(backend.in_flight for backend in self.backends),
            tuple(len(backend.unanswered) for backend in self.backends),
            len(self.gateway.backends.line),
            self.gateway.app.requests_running,
            len(self.gateway.listener.connections),
        )

    @property
    def is_quiet(self) -> bool:
        """Return whether the gateway and the simulators have no request left."""
        left = self.resources
        served = sum(simulator.in_flight for simulator in self.simulators.values())
        return not (left.clients or left.running or sum(left.connections) or served)

    def visit(self, model: str, prompt: str, *, streams: bool = True) -> Visit:
        """Return a chat that is not yet started."""
        return Visit(self.port, self.key, model, prompt, streams)

    def figure(self, name: str, **labels: str) -> float:
        """Return a figure of the gateway's metrics."""
        return self.gateway.parts.metrics.value(name, labels) or 0


@asynccontextmanager
async def running_gateway(
    directory: Path,
    simulators: Mapping[str, Simulator],
    settings: Mapping[str, str],
    *,
    slots: int = 0,
) -> AsyncIterator[RunningGateway]:
    """Run gateway, simulators and listener for the length of the block.

    Args:
        directory: the gateway's data.
        simulators: by name; the first are preferred.
        settings: of the gateway, as environment variables.
        slots: of each backend.

    """
    ended: list[Ended] = []
    async with trio.open_nursery() as behind:
        ports = {n: await behind.start(simulator.serve) for n, simulator in simulators.items()}
        loaded = _settings(directory, ports, slots, settings)
        key = _key(directory)
        sinks = (lambda record: ended.append(Ended(record, trio.current_time())),)
        async with build(loaded, sinks=sinks) as gateway, trio.open_nursery() as serving:
            for backend in gateway.backends.all:
                await gateway.parts.discovery.poll_once(backend)
            sockets = bind("127.0.0.1", 0)
            serving.start_soon(gateway.listener.serve, sockets)
            port: int = sockets[0].getsockname()[1]
            yield RunningGateway(gateway, simulators, port, key, ended)
            serving.cancel_scope.cancel()
        behind.cancel_scope.cancel()


def _settings(
    directory: Path, ports: Mapping[str, int], slots: int, settings: Mapping[str, str]
) -> Settings:
    backends: list[dict[str, Any]] = [
        {"name": name, "url": f"http://127.0.0.1:{port}", "slots": slots}
        for name, port in ports.items()
    ]
    environment = {
        "OLLAMA_BACKENDS": json.dumps(backends),
        "GATEWAY_STORAGE_DATA_DIR": str(directory),
        **settings,
    }
    return load(environ=environment, cwd=directory).settings


def _key(directory: Path) -> str:
    with closing(SQLiteKeys(directory / KEYS_FILE)) as store:
        _, text = store.create("racer")
    return text


async def wait_until(is_so: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait, at most so many seconds, for a condition that depends on the kernel."""
    with trio.fail_after(patience):
        while True:
            if is_so():
                return
            await trio.sleep(0.001)


def simulator(*models: Model) -> Simulator:
    """Return a simulator that keeps all of its models loaded."""
    made = Simulator(models)
    for model in models:
        made.load(model.name, keep_alive=-1)
    return made


async def together(visits: Sequence[Visit]) -> None:
    """Run all clients at once, to their ends."""
    async with trio.open_nursery() as nursery:
        for visit in visits:
            nursery.start_soon(visit.run)


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the quantile of the values for this share."""
    return sorted(seconds)[math.ceil(len(seconds) * share) - 1]


def in_milliseconds(seconds: Sequence[float]) -> str:
    """Render quantiles of many times for a reader."""
    figures = {"median": 0.5, "p99": 0.99, "longest": 1.0}
    return ", ".join(f"{n} {percentile(seconds, s) * 1000:.1f} ms" for n, s in figures.items())
