"""Ask a simulated Ollama directly, and an identical one through a gateway.

Both get the same bytes, and `test_alike.py` compares the answers. The gateway is reached over a
real socket, so the comparison includes its own reading and writing of HTTP.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from datetime import timedelta

import anyio
import attrs
import trio

from ollama_gateway.keys.key import ENDPOINT_GROUPS
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.simulator import Call, Model, Simulator, memory_server
from ollama_gateway.simulator.model import MODIFIED
from tests.alike.case import Case
from tests.http.serving import Peer, serving
from tests.simulator.client import Answer, answer, request
from tests.support.patience import until
from tests.support.scenario import Scenario, open_scenario

MODELS = (
    Model("m1", prompt_tokens=11, vector_length=3),
    Model(
        "tool",
        ("Hi",),
        11,
        ("completion", "tools", "thinking"),
        thinking=("hm", "m"),
        calls=(Call("get_w", {"city": "Oslo"}),),
    ),
    Model("eyes", ("I", " see"), 11, ("completion", "vision")),
    Model("vectors", prompt_tokens=7, capabilities=("embedding",), vector_length=3),
    Model("team/own:v1", prompt_tokens=11),
)


@attrs.frozen
class BothAnswers:
    """The answers to one request on both ways, and the audit records it left."""

    straight: Answer
    through: Answer
    records: Sequence[AuditRecord]


def simulator() -> Simulator:
    """Create one of two identical Ollamas; each reading of its clock is a second later."""
    seconds = itertools.count()
    registry = (Model("new:1"),)
    return Simulator(
        MODELS, registry=registry, wall_clock=lambda: MODIFIED + timedelta(seconds=next(seconds))
    )


async def _through(scenario: Scenario, peer: Peer, data: bytes, method: str) -> Answer:
    async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
        await stream.send(data)
        found = await answer(stream, method)
    await until(
        lambda: not peer.listener.connections
    )  # an audit record is written after its answer
    await scenario.poll()
    return found


async def _ask_all(cases: Sequence[Case]) -> list[BothAnswers]:
    alone, behind = simulator(), simulator()
    found = []
    async with (
        memory_server(alone) as connect,
        open_scenario(
            {"one": behind}, settings={"GATEWAY_SERVER_EXPOSE_BACKEND": "false"}
        ) as scenario,
        serving(scenario.gateway.listener.app) as peer,
    ):
        _, key = scenario.store.create("ops", ("*",), frozenset(ENDPOINT_GROUPS))
        for case in cases:
            for one in (alone, behind):
                one.clear_scripts()
                if case.script is not None:
                    one.script(case.script)
            headers = {"Authorization": f"Bearer {key}", **case.headers}
            data = request(case.method, case.path, case.body, headers)
            stream = await connect()
            await stream.send(data)
            straight = await answer(stream, case.method)
            await stream.aclose()
            scenario.records.clear()
            through = await _through(scenario, peer, data, case.method)
            found.append(BothAnswers(straight, through, tuple(scenario.records)))
    return found


@functools.cache
def ask_all(cases: tuple[Case, ...]) -> list[BothAnswers]:
    """Ask everything in order, once for all tests: later requests see earlier effects."""
    return trio.run(_ask_all, cases)
