"""A kept connection that breaks under a request: which requests are sent again."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ollama_gateway.backends.idle import SETTLE_SECONDS
from ollama_gateway.backends.transport import Transport
from ollama_gateway.simulator import Model, Script, Simulator, memory_server
from tests.support.scenario import open_scenario

CHAT = "/api/chat"


@pytest.mark.parametrize(
    ("worked", "reasons", "failures"),
    [(0.5, [None], 0), (3, ["connection_broken"], 1)],
    ids=["at once", "after some work"],
)
async def test_a_second_generation_is_seen(
    autojump_clock: MockClock, worked: float, reasons: list[str | None], failures: int
) -> None:
    """A backend that died while it worked has failed, in the record and for its breaker."""
    simulator = Simulator((Model("m1:latest"),))
    async with open_scenario({"a": simulator}) as scenario, memory_server(simulator) as connect:
        (backend,) = scenario.gateway.backends.all
        backend.transport = Transport(connect, most_idle=4)
        assert (await scenario.ask()).status == 200
        await trio.sleep(SETTLE_SECONDS)
        simulator.script(Script(before=worked, cut_after=0))
        reply = await scenario.ask()
        await backend.transport.aclose()

        assert [attempt.reason for attempt in scenario.records[-1].attempts] == reasons
        assert reply.status == (502 if failures else 200)
        (health,) = backend.health.values()
        assert health.breaker.failures == failures
        assert sum(seen.path == CHAT for seen in simulator.seen) == 3 - failures
