"""Without an endpoint nothing of tracing is imported or runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent
SERVE = """
import json, sys
import trio
from trio.testing import MockClock
from tests.support.scenario import open_scenario

async def main():
    async with open_scenario(settings=json.loads(sys.argv[1])) as scenario:
        await scenario.ask()
        watchers = list(scenario.gateway.watchers)
    found = [name for name in sys.modules if name.startswith("ollama_gateway") and "trac" in name]
    print(json.dumps([found, "tracing" in watchers]))

trio.run(main, clock=MockClock(autojump_threshold=0))
"""


def served(**settings: str) -> tuple[list[str], bool]:
    """Serve a request in a process of its own; return its modules of tracing, and if it watches."""
    said = subprocess.check_output(
        [sys.executable, "-c", SERVE, json.dumps(settings)],
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
    )
    found, watches = json.loads(said.splitlines()[-1])
    return found, watches


def test_a_gateway_without_a_collector_knows_nothing_of_tracing() -> None:
    """No module of it is imported, and no task of it runs."""
    assert served() == ([], False)
    assert served(OTEL_TRACES_SAMPLER="always_on") == ([], False)


def test_a_gateway_with_a_collector_does() -> None:
    """The modules are those that the test above would find."""
    found, watches = served(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")

    assert "ollama_gateway.tracing.exporter" in found
    assert watches
