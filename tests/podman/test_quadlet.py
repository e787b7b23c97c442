"""The units of Quadlet and of systemd alone: their life under a real systemd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.podman import prerequisites
from tests.podman.conftest import Note
from tests.podman.podman import FILES, IMAGE

UNITS: Final = FILES / "quadlet"
SOCKET: Final = FILES / "socket"
PLAIN: Final = FILES.parent / "systemd"
OURS: Final = Path(__file__).parent / "units"
SCENARIO: Final = Path(__file__).parent / "unit_scenario.py"
"""The script that runs next to the units, with the Python that is there."""
KINDS: Final = [(UNITS,), (UNITS, SOCKET)]


def generated(folder: Path, output: Path) -> dict[str, str]:
    """Return the services that Quadlet generates, by name; fail if it or systemd refuses one."""
    output.mkdir()
    quadlet = subprocess.run(
        [prerequisites.generator(), output, output, output],
        env={**os.environ, "QUADLET_UNIT_DIRS": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "error" not in quadlet.stderr.lower()
    for socket in folder.glob("*.socket"):
        shutil.copy(socket, output)
    made = [path for path in output.glob("*.*") if path.is_file()]
    subprocess.run(["systemd-analyze", "--man=no", "verify", *made], check=True)
    return {path.name: path.read_text() for path in made}


def together(folder: Path, *sources: Path) -> Path:
    """Return one folder with the files of several."""
    for source in sources:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("sources", KINDS, ids=["published", "socket"])
def test_the_generator_accepts_the_units(sources: tuple[Path, ...], tmp_path: Path) -> None:
    """Each unit becomes a service with its options; the socket replaces the port."""
    made = generated(together(tmp_path / "units", *sources), tmp_path / "made")
    service = made["ollama-gateway.service"]
    assert {"ollama-gateway-network.service", "ollama-gateway-volume.service"} < set(made)
    for option in (
        "--read-only",
        "--cap-drop all",
        "--security-opt=no-new-privileges",
        "--stop-timeout 45",
        "--secret ollama-gateway-chain-key",
        "--label io.containers.autoupdate=local",
        r'--health-cmd "[\"gatewayctl\",\"health\"]"',
    ):
        assert option in service
    assert "Restart=always" in service
    assert "RestartPreventExitStatus=2" in service
    assert ("--publish 11435:11435" in service) is (SOCKET not in sources)
    assert ("Requires=ollama-gateway.socket" in service) is (SOCKET in sources)


def lived(folder: Path, kind: str) -> dict[str, Any]:
    """Run the scenario under its own systemd and return its findings."""
    shutil.copy(SCENARIO, folder)
    command = f"python3 /etc/containers/systemd/{SCENARIO.name} {kind}"
    done = subprocess.run(
        [prerequisites.systemd(), str(folder), IMAGE, "prepare.service", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def check(seen: dict[str, Any], note: Note) -> None:
    """Check what all kinds of units do, and keep the figures."""
    assert seen["chat"] == seen["after kill"] == [200, True]
    # Before and after a reload; after one with a fault, and after one that takes all back.
    assert seen["pending"] == [["backends[second]"], [], ["backends[second]"], []]
    assert seen["stream at the reload"] is True
    assert seen["after a wrong reload"] == "active"
    assert seen["process stays"] is True
    assert seen["stream at the stop"] is True
    assert (seen["result"], seen["state"], seen["stopped"]) == ("success", "inactive", True)
    note(f"systemd {seen['systemd']}, systemctl reload {seen['reload took']:.1f} s")
    note(f"stop with a stream in flight {seen['stop took']:.1f} s")


@pytest.mark.parametrize(
    ("kind", "sources"), list(zip(["published", "socket"], KINDS, strict=True))
)
def test_the_units_live_under_systemd(
    image: str, kind: str, sources: tuple[Path, ...], tmp_path: Path, note: Note
) -> None:
    """The unit becomes healthy, reloads, restarts after a kill with its keys, drains at its stop.

    With the socket unit, clients that connect between two gateways wait and are served.
    """
    folder = together(tmp_path / "units", *sources, OURS)
    settings_file = folder / "gateway.toml"
    text = settings_file.read_text()
    assert text.count("host.containers.internal") == 1
    settings_file.write_text(text.replace("host.containers.internal", "ollama"))
    seen = lived(folder, kind)
    settings = json.loads(seen["settings"])["settings"]
    assert settings["audit.chain_key"]["value"] == "(set)"
    assert seen["healthy"]
    check(seen, note)
    # The command that ExecReload= runs tells systemd that nothing has changed.
    assert seen["a wrong reload exits with"] != 0
    if kind == "socket":
        assert seen["old stream"] is True
        assert seen["new clients"] == [[200, True]] * 5
        note(f"the last of 5 clients had its whole answer after {seen['waited']:.1f} s")


def test_the_plain_service_lives_under_systemd(image: str, tmp_path: Path, note: Note) -> None:
    """The service without a container starts, reloads, restarts after a kill and drains too.

    Where systemd is older than 253, it has `Type=notify` and `ExecReload=`, as the unit says.
    """
    seen = lived(together(tmp_path / "units", PLAIN, Path(__file__).parent / "plain"), "plain")
    check(seen, note)
    # With notify-reload systemd sends SIGHUP, and learns only that the reload has ended.
    assert (seen["a wrong reload exits with"] != 0) is (int(seen["systemd"]) < 253)
