"""The image's label and the files for podman, as far as they can be judged without it."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from ollama_gateway.settings import ServerSettings

ROOT = Path(__file__).parent.parent
PODMAN = ROOT / "docs" / "operate" / "podman"
AFTER_THE_DRAIN = 7.0
"""Seconds for the last bytes of connections (2) and for the stores (5)."""


def test_the_label_has_the_packages_version() -> None:
    """In both stages; the build itself refuses another one."""
    found = re.findall(r"^ARG VERSION=(.*)$", (ROOT / "Containerfile").read_text(), re.MULTILINE)

    assert found == [version("ollama-gateway")] * 2


def test_nothing_is_installed_without_a_hash() -> None:
    """Every command of pip takes what a lock has the hash of, or takes nothing from an index."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", "")
    commands = re.findall(r"pip --python.*?(?=&&|\n)", text)

    assert len(commands) == 4
    for command in commands:
        assert "--no-index" in command or (
            "--require-hashes" in command and "--only-binary :all:" in command
        ), command


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("run.md", r"--stop-timeout (\d+) "),
        ("compose.yaml", r"stop_grace_period: (\d+)s"),
        ("pod.yaml", r"terminationGracePeriodSeconds: (\d+)\n"),
        ("quadlet/ollama-gateway.container", r"\nStopTimeout=(\d+)\n"),
        ("quadlet/ollama-gateway.container", r"\nTimeoutStopSec=(\d+)\n"),
    ],
)
def test_nobody_kills_before_the_drain_is_over(file: str, setting: str) -> None:
    """Each file gives more time than `server.drain_timeout` and what comes after it."""
    (given,) = set(re.findall(setting, (PODMAN / file).read_text()))

    assert float(given) > ServerSettings().drain_timeout + AFTER_THE_DRAIN
