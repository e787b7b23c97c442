"""docs/operate/podman.md, Backup: a backup of a running container, restored into its volume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.podman.chat import chatted
from tests.podman.podman import (
    IMAGE,
    NETWORK,
    PodmanFailed,
    is_ready,
    podman,
    remove,
    volume,
    wait_until,
    wait_until_healthy,
)

NAME: Final = "gateway"
DATA: Final = "/var/lib/ollama-gateway"
ARCHIVE: Final = f"{DATA}/backup.tar"


def ready() -> int:
    """Wait until the gateway serves; return its port on this machine."""
    wait_until_healthy(NAME)
    wait_until(lambda: is_ready(NAME), "not ready")
    return int(podman("port", NAME, "11435/tcp").rpartition(":")[2])


def ctl(*arguments: str) -> str:
    """Run a command in the running container."""
    return podman("exec", NAME, "gatewayctl", *arguments)


def restored(mounted: str, *options: str) -> str:
    """Run `restore` in a container of its own on the volume, as the page says."""
    return podman("run", "--rm", "--volume", mounted, IMAGE, "restore", ARCHIVE, *options)


@pytest.fixture
def mounted(simulators: tuple[str, ...]) -> Iterator[str]:
    """Run a gateway on a volume of its own; return the volume's mount."""
    with volume("ollama-gateway-tests-data") as name:
        where = f"{name}:{DATA}"
        backend = f"OLLAMA_BACKENDS={simulators[1]}=http://{simulators[1]}:11434"
        place = ("--network", NETWORK, "--publish", "127.0.0.1::11435", "--volume", where)
        podman("run", "--detach", "--name", NAME, *place, "--env", backend, IMAGE)
        try:
            yield where
        finally:
            remove(NAME)


def test_a_backup_of_a_running_container_is_restored(mounted: str, tmp_path: Path) -> None:
    """A key deleted since, and the records until then, are back; the chain holds."""
    port = ready()
    key = ctl("keys", "create", "app").splitlines()[0]
    assert chatted(port, key) == 200
    wait_until(lambda: len(ctl("audit", "list", "--json").splitlines()) == 1, "no record")
    ctl("backup", ARCHIVE, "--force")
    copy = tmp_path / "gateway.tar"
    podman("cp", f"{NAME}:{ARCHIVE}", str(copy))
    ctl("keys", "revoke", "app")
    ctl("keys", "delete", "app", "--yes")
    with pytest.raises(PodmanFailed, match="gateway"):
        restored(mounted, "--yes")  # it still runs
    podman("stop", NAME)
    podman("cp", str(copy), f"{NAME}:{ARCHIVE}")

    with pytest.raises(PodmanFailed, match="No terminal to answer on: add --yes"):
        restored(mounted)
    assert "restored; the files from before are in" in restored(mounted, "--yes")
    podman("start", NAME)

    assert chatted(ready(), key) == 200
    records = [json.loads(line) for line in ctl("audit", "list", "--json").splitlines()]
    assert [record["key_name"] for record in records][:1] == ["app"]
    assert ctl("audit", "verify")
