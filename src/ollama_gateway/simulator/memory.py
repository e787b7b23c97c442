"""A simulator without sockets, for tests under virtual time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from ollama_gateway.simulator.simulator import Simulator
from ollama_gateway.simulator.streams import MemoryByteStream, memory_pair

Connect = Callable[[], Awaitable[ByteStream]]


@contextlib.asynccontextmanager
async def memory_server(simulator: Simulator) -> AsyncIterator[Connect]:
    """Serve in memory while the block lasts; yields a function that connects.

    The block's end closes its streams. While the simulator is down, connecting raises
    `ConnectionRefusedError`.
    """
    ends: list[MemoryByteStream] = []
    async with anyio.create_task_group() as tasks:

        async def connect() -> ByteStream:
            await anyio.lowlevel.checkpoint()
            if simulator.down:
                raise ConnectionRefusedError("the simulator is down")
            client, server = memory_pair()
            ends.append(client)
            tasks.start_soon(simulator.serve_stream, server)
            return client

        try:
            yield connect
        finally:
            tasks.cancel_scope.cancel()
            for end in ends:
                end.close()
