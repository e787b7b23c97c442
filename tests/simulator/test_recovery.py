"""Failures of the simulator itself."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from ollama_gateway.simulator import Model, Simulator, memory_pair, memory_server
from tests.simulator.client import ask


def broken() -> Simulator:
    """Make one that fails to report its version."""
    simulator = Simulator([Model("m1")])
    simulator._library.version = object()  # type: ignore[assignment]
    return simulator


async def test_a_failure_of_its_own_is_raised() -> None:
    """The test gets the failure, even if its client leaves at once."""
    with pytest.raises(ExceptionGroup) as caught:
        async with memory_server(broken()) as connect:
            reply = await ask(await connect(), "GET", "/api/version")

    assert reply.status == 0
    assert caught.group_contains(TypeError)


async def test_a_server_that_recovers_tells_its_failure_and_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The client gets an empty 500, as from Ollama, and the connection stays open."""
    client, server = memory_pair()
    async with client, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(broken().serve_stream, server, recovers=True))
        reply = await ask(client, "GET", "/api/version")
        again = await ask(client, "GET", "/api/status")
        tasks.cancel_scope.cancel()

    assert (reply.status, reply.body, again.status) == (500, b"", 200)
    assert "TypeError" in capsys.readouterr().err
