"""The cost of operators who look at requests in flight: `python -m tests.bench.asked`.

Streams run through one gateway, by turns alone and while operators ask for `/admin/v1/requests`,
each once a second over a connection of its own. Printed are the gaps between the chunks of all
streams, in ms, and the gateway's CPU in percent of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.smoke.fleet import Fleet, fleet

PACE: Final = "20ms"
SIMULATORS: Final = {
    f"s{number}": (
        "--model",
        "m:1",
        "--tokens",
        "100000",
        "--token-delay",
        PACE,
        "--load-time",
        "0s",
    )
    for number in range(6)
}
"""Each writes one stream at a time; the others wait."""
WARM_UP: Final = 2.0
"""Seconds before each measurement."""
TICKS: Final = os.sysconf("SC_CLK_TCK")


def request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """Return an HTTP request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def stream(made: Fleet, gaps: list[float]) -> None:
    """Read a stream until cancelled, and note the gaps between its chunks."""
    body = json.dumps({"model": "m:1", "messages": [{"role": "user", "content": "hi"}]})
    async with await trio.open_tcp_stream("127.0.0.1", made.port) as client:
        await client.send_all(request("POST", "/api/chat", made.key, body.encode()))
        head = await client.receive_some()
        assert head.startswith(b"HTTP/1.1 200"), head
        last = trio.current_time()
        while await client.receive_some():
            now = trio.current_time()
            gaps.append(now - last)
            last = now


async def operate(made: Fleet, place: float) -> None:
    """Ask for the list once a second until cancelled."""
    asked = request("GET", "/admin/v1/requests?limit=1000", "")
    await trio.sleep(place)
    async with await trio.open_tcp_stream("127.0.0.1", made.gateways[0].admin_port) as client:
        while True:
            began = trio.current_time()
            await client.send_all(asked)
            received = b""
            while not received.endswith(b"}"):
                received += await client.receive_some()
            assert received.startswith(b"HTTP/1.1 200"), received[:200]
            await trio.sleep_until(began + 1)


def cpu_of(pid: int) -> float:
    """Return the CPU time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measured(
    made: Fleet, streams: int, operators: int, seconds: float
) -> tuple[list[float], float]:
    """Return the gaps in ms, sorted, and the share of a core that the gateway took."""
    gaps: list[float] = []
    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            nursery.start_soon(stream, made, gaps)
        for number in range(operators):
            nursery.start_soon(operate, made, number / operators)
        await trio.sleep(WARM_UP)
        gaps.clear()
        before = cpu_of(made.gateway.popen.pid)
        await trio.sleep(seconds)
        cpu = cpu_of(made.gateway.popen.pid) - before
        nursery.cancel_scope.cancel()
    return sorted(gap * 1000 for gap in gaps), cpu / seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.asked", description=__doc__)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--operators", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        fleet(Path(directory), SIMULATORS, priorities="equal") as made,
    ):
        for number in range(given.rounds):
            for operators in (0, given.operators):
                run = partial(measured, made, given.streams, operators, given.seconds)
                gaps, cpu = trio.run(run)
                p50, p99 = (gaps[int(len(gaps) * share)] for share in (0.5, 0.99))
                sys.stdout.write(
                    f"round {number + 1}  operators {operators:3}  gap p50 {p50:6.1f} ms"
                    f"  p99 {p99:6.1f} ms  longest {gaps[-1]:6.1f} ms  CPU {cpu:.1%}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
