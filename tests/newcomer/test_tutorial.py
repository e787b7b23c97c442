"""The tutorial works with nothing but what a newcomer installs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, script_of
from tests.docs.stage import stage

TUTORIAL = "docs/use/tutorial.md"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Build a wheel, install it into a new environment, and return the programs there."""
    wheels, environment = tmp_path / "wheels", tmp_path / "environment"
    python = environment / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", environment],
        [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT],
    ):
        subprocess.run(command, check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    return python.parent


def test_the_tutorial_works_from_a_wheel(programs: Path, tmp_path: Path) -> None:
    """Every command of the tutorial works in its order, with the installed wheel alone."""
    directory = tmp_path / "empty"
    directory.mkdir()
    with stage(directory, programs) as found:
        run = found.run(script_of(TUTORIAL))

    assert run.code == 0, (run.output, run.errors)
    assert "has no room for this request" in run.output
