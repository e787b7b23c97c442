"""A closed or full standard error loses log lines only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.smoke.fleet import PATIENCE, alone, clean_environment, ctl
from tests.support.patience import wait_until


@pytest.mark.parametrize("where", ["closed pipe", "full disk"])
def test_the_gateway_serves_and_ends_with_0(tmp_path: Path, where: str) -> None:
    """The gateway starts, answers and drains although it cannot log."""
    environment = alone(tmp_path)
    made = ctl("keys", "create", "x", environment=environment)
    assert made.returncode == 0
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed, Path("/dev/full").open("wb") as full:
        gateway = subprocess.Popen(
            [sys.executable, "-m", "ollama_gateway", "serve"],
            env={**clean_environment(), **environment},
            stderr=closed if where == "closed pipe" else full,
        )
    try:
        wait_until(
            lambda: (
                gateway.poll() is not None or ctl("health", environment=environment).returncode == 0
            )
        )
        assert gateway.poll() is None
        gateway.send_signal(signal.SIGTERM)

        assert gateway.wait(PATIENCE) == 0
    finally:
        gateway.kill()
        gateway.wait(PATIENCE)
