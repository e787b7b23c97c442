"""Measure the cost of affinity: `python -m tests.bench.warm`.

Two gateways, with affinity and without, get the same conversation in turn, in rounds. Each row has
the CPU time of a request, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from tests.bench.measure import Load, run
from tests.bench.subjects import Subject, gateway, upstream

SIZES: Final = (1024, 8 * 1024, 100 * 1024)
BACKENDS: Final = 3


@attrs.frozen
class Talking(Subject):
    """A gateway that gets a long conversation."""

    size: int = 0
    """Bytes of its text."""

    def request(self, path: str, *, pace: int, chunks: int, streams: bool = True) -> str:
        """Return a request's head and body."""
        half = "word " * (self.size // 10)
        said = [("system", half), ("user", half), ("assistant", "yes"), ("user", "go on")]
        messages = [{"role": role, "content": text} for role, text in said]
        ask = {"model": f"pace:{pace}", "messages": messages, "stream": streams}
        body = json.dumps({**ask, "options": {"num_predict": chunks}})
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
            f"X-Session-Id: one\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the cost of affinity.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=1000, help="requests of a round")
    given = parser.parse_args()
    load = Load(given.count, 8, streams=False, chunks=3, pace=0)
    say("| body | without | with | ratio |\n|---|---|---|---|")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        direct = stack.enter_context(upstream(directory))
        found = {
            name: stack.enter_context(
                gateway(
                    directory,
                    direct.port,
                    name=name,
                    backends=BACKENDS,
                    GATEWAY_AFFINITY_ENABLED=str(name == "with").lower(),
                )
            )
            for name in ("without", "with")
        }
        for size in SIZES:
            seen: dict[str, list[float]] = {name: [] for name in found}
            for number in range(given.rounds + 1):  # the first one is not counted
                for name, subject in found.items():
                    talking = Talking(name, subject.port, subject.pid, subject.key, size=size)
                    cost = run(talking, direct, load).per_request
                    if number:
                        seen[name].append(cost)
            ratios = [on / off for off, on in zip(seen["without"], seen["with"], strict=True)]
            off, on = (statistics.median(costs) * 1e6 for costs in seen.values())
            ratio = statistics.median(ratios)
            say(f"| {size // 1024} KiB | {off:.0f} us | {on:.0f} us | {ratio:.3f} |")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
