"""A command that cannot be undone asks first, and asks alike in all commands."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import alone, ran
from tests.support.patience import PATIENCE


@pytest.mark.parametrize("command", ["keys delete ci", "restore b.tar"])
@pytest.mark.parametrize(
    ("answer", "code", "last"),
    [(None, 2, "No terminal to answer on: add --yes"), ("n\n", 1, "Aborted."), ("y\n", 0, "")],
)
def test_the_answer_is_the_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    answer: str | None,
    code: int,
    last: str,
) -> None:
    """Yes is 0, no is 1, and 2 without a terminal to answer on."""
    alone(monkeypatch, tmp_path, tmp_path / "data")
    ran("keys", "create", "ci")
    ran("keys", "revoke", "ci")
    ran("backup", "b.tar")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w") as typing, os.fdopen(theirs) as terminal:
        typing.write(answer or "")
        typing.flush()
        done = subprocess.run(
            [sys.executable, "-m", "ollama_gateway", *command.split()],
            stdin=subprocess.DEVNULL if answer is None else terminal,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert (done.returncode, done.stderr.rstrip().endswith(last)) == (code, True)
    assert "Traceback" not in done.stderr
