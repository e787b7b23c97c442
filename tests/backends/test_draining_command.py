"""`gatewayctl backends drain`, with and without something on the admin address."""

from __future__ import annotations

import json

import pytest

from ollama_gateway.backends.pausing import PauseFile
from tests.backends.test_pausing_commands import A, B, file, listener, run
from tests.keys.admin_listener import AdminListener

__all__ = ["file", "listener"]


@pytest.mark.parametrize(("in_flight", "code"), [(0, 0), (1, 1)])
def test_a_drain_waits_for_what_runs(
    file: PauseFile, listener: AdminListener, in_flight: int, code: int
) -> None:
    """`drain` pauses, and ends with 0 once nothing runs, with 1 if its seconds are over."""
    listener.says("/status.json", {"backends": [{**A, "in_flight": in_flight}, B]})
    done = run("drain", "a", "--seconds", "1", "--json")

    assert done.exit_code == code
    assert json.loads(done.stdout) == {
        "name": "a",
        "paused": True,
        "in_flight": in_flight,
        "drained": not in_flight,
    }
    assert done.stderr == "gatewayctl backends: 1 request left at a\n" * in_flight
    assert file.read() == {"a"}


def test_a_drain_without_a_gateway(file: PauseFile) -> None:
    """Without a gateway nothing runs, so the backend is drained as soon as it is paused."""
    done = run("drain", "a")

    assert done.exit_code == 0
    assert file.read() == {"a"}
    assert done.stdout == "a is drained: no gateway runs that could send requests\n"
    assert run("drain", "c").stderr.endswith('no backend is named "c"; there are: a, b\n')
