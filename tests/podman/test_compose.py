"""docs/operate/podman/compose.yaml, by podman-compose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.podman.chat import chatted
from tests.podman.podman import (
    FILES,
    NETWORK,
    inspected,
    is_ready,
    podman,
    remove,
    succeeds,
    wait_until,
    wait_until_healthy,
)
from tests.smoke.fleet import free_port

NAME: Final = "gateway"
PROJECT: Final = "ollama-gateway-tests"


def compose(folder: Path, *arguments: str, **environment: str) -> None:
    """Run podman-compose of this environment in a folder."""
    program = Path(sys.executable).with_name("podman-compose")
    subprocess.run(
        [str(program), "--project-name", PROJECT, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )


@pytest.fixture
def folder(image: str, tmp_path: Path) -> Iterator[Path]:
    """Return a folder with the compose file on a free port."""
    text = (FILES / "compose.yaml").read_text()
    assert text.count('"11435:11435"') == 1
    port = free_port()
    (tmp_path / "compose.yaml").write_text(text.replace('"11435:', f'"127.0.0.1:{port}:'))
    (tmp_path / "port").write_text(str(port))
    yield tmp_path
    remove(NAME)
    podman("volume", "rm", "--force", f"{PROJECT}_data")
    podman("network", "rm", "--force", f"{PROJECT}_default")


@pytest.mark.parametrize("form", ["json", "pairs"])
def test_backends_are_passed_through(folder: Path, simulators: tuple[str, ...], form: str) -> None:
    """`OLLAMA_BACKENDS` of the shell reaches the gateway in both forms, and a chat is served."""
    listed = [{"name": name, "url": f"http://{name}:11434"} for name in simulators]
    pairs = ",".join(f"{backend['name']}={backend['url']}" for backend in listed)
    given = json.dumps(listed) if form == "json" else pairs
    stop_timeout = "--podman-run-args=--stop-timeout 45"
    compose(folder, stop_timeout, "up", "--detach", "--no-build", OLLAMA_BACKENDS=given)
    podman("network", "connect", NETWORK, NAME)
    wait_until_healthy(NAME)
    key = podman("exec", NAME, "gatewayctl", "keys", "create", "app").splitlines()[0]
    wait_until(lambda: is_ready(NAME), "not ready")
    assert chatted(int((folder / "port").read_text()), key) == 200
    assert inspected(NAME, "{{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}}") == "true []"
    assert inspected(NAME, "{{.Config.StopTimeout}}") == "45"
    compose(folder, "down", "--timeout", "45")
    assert not succeeds("container", "exists", NAME)
